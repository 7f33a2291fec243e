//! What can happen in a month, and how it ends.

use rand::RngExt as _;
use wireplug_sim::nat::{Mapping, Ports};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::{V4, V6};
use wireplug_sim::world::{Cut, NOWHERE, Service};
use wireplug_sim::{Time, ms};

use crate::month::Month;

/// Something that happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Roam(usize),
    BothRoam,
    Readdress(usize, Family),
    WithoutV4(usize),
    LinkDown(usize),
    RebootRouter(usize),
    RenumberRouter(usize),
    Sleep(usize),
    RebootHost(usize),
    KillDaemon(usize),
    NewDevice(usize),
    SetByHand(usize),
    StepClock(usize),
    Cut,
    StopServer,
    CutOffServer,
    SlowServer,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Family {
    V4,
    V6,
    Both,
}

/// How something ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mend {
    V4(usize),
    LinkUp(usize),
    Cut,
    Server,
    Daemon(usize),
}

impl Event {
    pub(crate) fn draw(month: &mut Month) -> Self {
        let c = &mut month.chance;
        let host = c.random_range(0..2);
        match c.random_range(0..24) {
            0..4 => Self::Roam(host),
            4 => Self::BothRoam,
            5 => Self::Readdress(host, Family::V4),
            6 => Self::Readdress(host, Family::V6),
            7 => Self::Readdress(host, Family::Both),
            8 => Self::WithoutV4(host),
            9..11 => Self::LinkDown(host),
            11 => Self::RebootRouter(host),
            12 => Self::RenumberRouter(host),
            13..15 => Self::Sleep(host),
            15 => Self::RebootHost(host),
            16 => Self::KillDaemon(host),
            17 => Self::NewDevice(host),
            18 => Self::SetByHand(host),
            19 => Self::StepClock(host),
            20 => Self::Cut,
            21 => Self::StopServer,
            22 => Self::CutOffServer,
            _ => Self::SlowServer,
        }
    }

    /// Lets it happen; `false` if it does not, or if a tunnel that works must go on through it.
    pub(crate) fn perform(self, month: &mut Month) -> bool {
        let short = month.draw_gap(60);
        let seed = month.chance.random();
        match self {
            Self::Roam(host) => month.world.move_host(host, &Scenario::draw_place(seed)),
            Self::BothRoam => {
                month.world.move_host(0, &Scenario::draw_place(seed));
                month.world.move_host(1, &Scenario::draw_place(seed.wrapping_add(1)));
            }
            Self::Readdress(host, family) => {
                // A NAT whose port the old address holds still gives the new one another for each destination.
                if !month.relays && collides(&month.world.site(host).v4) {
                    return false;
                }
                month.world.readdress(host, |ip| match family {
                    Family::V4 => ip.is_ipv4(),
                    Family::V6 => ip.is_ipv6(),
                    Family::Both => true,
                });
            }
            Self::WithoutV4(host) => {
                let site = month.world.host(host).site();
                if site.v4 == V4::None || site.v6 == V6::None || !month.relays && collides(&site.v4) {
                    return false;
                }
                month.world.without_v4(host, true);
                month.later(short, Mend::V4(host));
            }
            Self::LinkDown(host) => {
                month.world.link(host, false);
                month.later(short, Mend::LinkUp(host));
            }
            Self::RebootRouter(host) => month.world.reboot_routers(host),
            Self::RenumberRouter(host) => month.world.renumber_router(host),
            Self::Sleep(host) => {
                if month.world.host(host).is_asleep() {
                    return false;
                }
                let mean = if month.chance.random() { 30 } else { 7200 };
                let time = month.draw_gap(mean);
                month.world.sleep(host, time);
            }
            Self::RebootHost(host) => {
                if month.world.host(host).is_asleep() || month.awaits(|m| matches!(m, Mend::Daemon(_))) {
                    return false;
                }
                month.world.reboot_host(host, short);
            }
            Self::KillDaemon(host) => {
                if month.world.host(host).daemon().is_none() {
                    return false;
                }
                return month.spare(|month| {
                    month.world.kill_daemon(host);
                    month.later(short, Mend::Daemon(host));
                });
            }
            Self::NewDevice(host) => {
                let port = month.chance.random_range(2000..60000);
                // As with another address, the NAT's port is still the old one's.
                let other = month.relays || !collides(&month.world.site(host).v4);
                let port = Some(port).filter(|_| other && month.chance.random());
                month.world.new_device(host, port);
            }
            Self::SetByHand(host) => month.world.set_by_hand(host, Some(NOWHERE), None),
            Self::StepClock(host) => {
                let seconds = month.chance.random_range(-90_000..90_000);
                month.world.step_clock(host, seconds);
            }
            Self::Cut => {
                month.cut = [Cut::Both, Cut::Towards(0), Cut::Towards(1)][month.chance.random_range(0..3)];
                month.world.cut(month.cut);
                month.later(short, Mend::Cut);
            }
            Self::StopServer | Self::CutOffServer | Self::SlowServer => {
                if month.world.service() != Service::Runs {
                    return false;
                }
                let slow = ms(month.chance.random_range(200..3000));
                return month.spare(|month| {
                    match self {
                        Self::StopServer => month.world.stop_server(),
                        Self::CutOffServer => month.world.cut_off_server(),
                        _ => month.world.slow_server(slow),
                    }
                    month.later(short, Mend::Server);
                });
            }
        }
        true
    }
}

impl Mend {
    pub(crate) fn perform(self, month: &mut Month) {
        match self {
            Self::V4(host) => month.world.without_v4(host, false),
            Self::LinkUp(host) => month.world.link(host, true),
            Self::Cut => {
                month.cut = Cut::Nothing;
                month.world.cut(Cut::Nothing);
            }
            Self::Server => month.world.start_server(),
            Self::Daemon(host) => month.world.start_daemon(host, month.world.now() + Time::from_millis(1)),
        }
    }
}

fn collides(v4: &V4) -> bool {
    let V4::Behind(chain) = v4 else { return false };
    chain.iter().any(|nat| nat.mapping != Mapping::EndpointIndependent && nat.ports != Ports::Random)
}
