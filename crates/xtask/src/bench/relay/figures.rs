//! What was measured, and the figures that follow from it.

use std::fmt;

use wireplug_lab::{Cutting, HighestRate, IdleReport, LoadReport, Through};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// `wireplug-serverd`.
    Wireplug,
    /// coturn with channel data.
    Coturn,
    /// The kernel's own forwarding.
    Kernel,
}

/// Something of each way, in the order of the table's columns.
pub(crate) type Each<T> = Vec<(Way, T)>;

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Wireplug, Self::Coturn, Self::Kernel];

    pub(crate) const fn through(self) -> Through {
        match self {
            Self::Wireplug => Through::Wireplug,
            Self::Coturn => Through::Coturn,
            Self::Kernel => Through::Kernel,
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Wireplug => "wireplug",
            Self::Coturn => "coturn",
            Self::Kernel => "kernel",
        }
    }
}

/// One kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Pairs that send, one after another.
    pub(crate) pairs: usize,
    /// Bytes of each datagram.
    pub(crate) size: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.pairs == 1 { "" } else { "s" };
        write!(f, "{} pair{plural}, {} bytes", self.pairs, self.size)
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// What was measured, in the order of the columns.
    pub(crate) ways: Vec<Way>,
    /// What the measured server was built from.
    pub(crate) version: String,
    /// Windows for each figure.
    pub(crate) runs: usize,
    /// What forwarding costs.
    pub(crate) rows: Vec<Row>,
    /// The same at low load, where latency counts.
    pub(crate) low: Vec<Row>,
    /// The highest rates without loss.
    pub(crate) highest: Vec<(Shape, Each<HighestRate>)>,
    /// What forwarding costs on links that receive like network cards, by who cuts runs.
    pub(crate) cards: Vec<(Cutting, Vec<Row>)>,
    /// Memory of idle allocations.
    pub(crate) idle: Option<IdleReport>,
}

/// The windows of one kind of traffic at one rate.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) shape: Shape,
    /// Datagrams a second; none: as many as the load can send.
    pub(crate) rate: Option<f64>,
    pub(crate) ways: Each<Vec<LoadReport>>,
    /// The same over a cable: what sending and receiving cost without anything between.
    pub(crate) cable: Vec<LoadReport>,
}

impl Row {
    /// Packets forwarded for each CPU-second: the median of the windows.
    ///
    /// Of a server: by the CPU time of its process. The kernel forwards in the sender's own send calls (on a virtual
    /// link nothing else runs it), so its cost is what sending through it takes longer than sending into a cable.
    pub(crate) fn per_cpu_second(&self, way: Way) -> Option<f64> {
        let reports = self.reports(way);
        if way != Way::Kernel {
            return median(
                &mut reports.iter().filter_map(LoadReport::forwarded_per_cpu_second).collect::<Vec<_>>(),
            );
        }
        let cost =
            |reports: &[LoadReport]| median(&mut reports.iter().filter_map(sending_cost).collect::<Vec<_>>());
        let nanoseconds = cost(reports)? - cost(&self.cable)?;
        (nanoseconds > 0.0).then(|| 1e9 / nanoseconds)
    }

    /// Packets that arrived in each second: the median of the windows.
    pub(crate) fn throughput(&self, way: Way) -> Option<f64> {
        let arrived = |report: &LoadReport| number(report.received) / report.seconds;
        median(&mut self.reports(way).iter().map(arrived).collect::<Vec<_>>())
    }

    /// The share of what was sent that was lost: the median of the windows.
    pub(crate) fn lost(&self, way: Way) -> Option<f64> {
        let lost = |report: &LoadReport| number(report.lost()) / number(report.sent.max(1));
        median(&mut self.reports(way).iter().map(lost).collect::<Vec<_>>())
    }

    /// The latency that it adds to a cable's, in nanoseconds: medians of the windows' medians.
    pub(crate) fn added_latency(&self, way: Way) -> Option<f64> {
        let latency = |reports: &[LoadReport]| {
            median(&mut reports.iter().filter_map(|report| report.latency_ns.map(number)).collect::<Vec<_>>())
        };
        Some(latency(self.reports(way))? - latency(&self.cable)?)
    }

    fn reports(&self, wanted: Way) -> &[LoadReport] {
        self.ways.iter().find(|(way, _)| *way == wanted).map_or(&[], |(_, reports)| reports)
    }
}

impl Figures {
    /// The row of this traffic at this rate.
    pub(crate) fn row(&self, shape: Shape, rate: Option<f64>) -> Option<&Row> {
        find(&self.rows, shape, rate)
    }

    /// The same on links like network cards.
    pub(crate) fn card_row(&self, cutting: Cutting, shape: Shape, rate: Option<f64>) -> Option<&Row> {
        self.cards.iter().find(|(by, _)| *by == cutting).and_then(|(_, rows)| find(rows, shape, rate))
    }
}

fn find(rows: &[Row], shape: Shape, rate: Option<f64>) -> Option<&Row> {
    rows.iter().find(|row| row.shape == shape && row.rate.map(f64::to_bits) == rate.map(f64::to_bits))
}

/// Who cuts runs, in words.
pub(crate) const fn cut_by(cutting: Cutting) -> &'static str {
    match cutting {
        Cutting::Card => "runs cut by the card",
        Cutting::Kernel => "runs cut by the kernel",
    }
}

/// A rate in words.
pub(crate) fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "as fast as it can".to_owned(), |rate| format!("{} a second", grouped(rate)))
}

/// A number with its thousands told apart.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The median; of an even count the higher of the two in the middle. None of nothing.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A count as a number to calculate with.
#[allow(clippy::cast_precision_loss)] // far below 2^52
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

/// CPU time of sending one datagram, in nanoseconds.
fn sending_cost(report: &LoadReport) -> Option<f64> {
    let spent = report.sending_ns?;
    (report.sent > 0).then(|| number(spent) / number(report.sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sent: u64, received: u64, server: Option<u64>, sending: Option<u64>) -> LoadReport {
        LoadReport {
            offered: None,
            seconds: 2.0,
            sent,
            unsent: 0,
            received,
            reordered: 0,
            server_cpu_ns: server,
            sending_ns: sending,
            latency_ns: None,
            latency_p99_ns: None,
        }
    }

    #[test]
    #[allow(clippy::float_cmp)] // exact in binary
    fn costs_are_medians_of_the_windows() {
        let second = Some(1_000_000_000);
        let serverd = [300, 100, 200].map(|received| report(400, received, second, None));
        let row = Row {
            shape: Shape { pairs: 1, size: 100 },
            rate: None,
            ways: vec![(Way::Wireplug, serverd.into()), (Way::Kernel, vec![report(4, 4, None, Some(4000))])],
            cable: vec![report(8, 8, None, Some(4000))],
        };
        assert_eq!(row.per_cpu_second(Way::Wireplug), Some(200.0));
        assert_eq!(row.throughput(Way::Wireplug), Some(100.0));
        assert_eq!(row.lost(Way::Wireplug), Some(0.5));
        assert_eq!(row.per_cpu_second(Way::Kernel), Some(2_000_000.0));
        assert_eq!(row.per_cpu_second(Way::Coturn), None);
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(grouped(1_234_567.8), "1,234,568");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(100_000.0), "100,000");
    }
}
