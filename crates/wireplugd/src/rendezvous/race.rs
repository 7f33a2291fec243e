//! Connecting while the network changes: tries race, and the first that succeeds wins.

use std::pin::Pin;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a try is left alone whatever happens to the network: where that changes all the time, some try must come to
/// an end all the same.
const LET_TRY: Duration = Duration::from_millis(500);

/// One try to connect.
pub(crate) type Try<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// Waits for the `first` try. When it is kicked meanwhile, because the network is another one, another try begins at once, by
/// `connect`, beside the one under way, which may have begun on either network. Fails when the last try has failed.
pub(crate) async fn race<'a, T, E>(
    kicked: &Notify,
    first: Try<'a, T, E>,
    connect: impl Fn() -> Try<'a, T, E>,
) -> Result<T, E> {
    let mut tries = vec![(Instant::now(), first)];
    loop {
        tokio::select! {
            biased;
            () = kicked.notified() => {
                if let [(began, _), _] = &tries[..] {
                    drop(tries.remove(usize::from(began.elapsed() < LET_TRY)));
                }
                tries.push((Instant::now(), connect()));
            }
            (done, index, _) = select_all(tries.iter_mut().map(|(_, one)| one)) => match done {
                Err(_) if tries.len() > 1 => drop(tries.remove(index)),
                done => return done,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::sleep;

    use super::*;

    /// Tries by number: the nth takes `takes(n)` ms, and succeeds if that is so. Kicked each 100 ms, `kicks` times.
    async fn run(kicks: u32, takes: impl Fn(u64) -> (u64, bool)) -> (Result<u64, u64>, u128) {
        let (kicked, count, start) = (Notify::new(), AtomicU64::new(0), Instant::now());
        let connect = || -> Try<'_, u64, u64> {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let (takes, succeeds) = takes(number);
            Box::pin(async move {
                sleep(Duration::from_millis(takes)).await;
                if succeeds { Ok(number) } else { Err(number) }
            })
        };
        let kicking = async {
            for _ in 0..kicks {
                sleep(Duration::from_millis(100)).await;
                kicked.notify_one();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = race(&kicked, connect(), connect) => (done, start.elapsed().as_millis()),
            () = kicking => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_on_the_network_of_before_holds_nothing_up() {
        assert_eq!(run(1, |number| (if number == 0 { 10_000 } else { 60 }, true)).await, (Ok(1), 160));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_succeeds_is_taken_also_when_the_network_changed_after_it_began() {
        assert_eq!(run(1, |number| (if number == 0 { 150 } else { 9_000 }, true)).await, (Ok(0), 150));
    }

    #[tokio::test(start_paused = true)]
    async fn endless_changes_let_tries_come_to_an_end() {
        assert_eq!(run(1000, |_| (450, true)).await, (Ok(0), 450));
        let (done, took) = run(1000, |number| (450, number > 0)).await;
        assert!(done.is_ok() && took < 1500, "{done:?} after {took} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_with_the_last_try() {
        assert_eq!(run(0, |number| (70, number > 0)).await, (Err(0), 70));
        assert_eq!(run(1, |number| (if number == 0 { 120 } else { 300 }, false)).await, (Err(1), 400));
    }
}
