//! Work done by several threads whose results are taken in order, with a bound on how many wait.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct State<R> {
    /// The job that the next idle worker takes.
    next: usize,
    /// The result that is taken next.
    wanted: usize,
    results: BTreeMap<usize, R>,
    /// The taker has given up, or a worker has panicked: no further jobs.
    stopped: bool,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops everybody when its thread ends early, so that nobody waits for ever.
struct StopOnDrop<'a, R>(&'a Shared<R>);

impl<R> Drop for StopOnDrop<'_, R> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

/// Runs `work` on the jobs `0..count` in as many threads as the current rayon pool has, and gives
/// the results to `take` in order, in the calling thread. At most four results a thread are begun
/// and not yet taken. Own threads, as waiting in a pool's only thread would never end.
///
/// # Errors
/// The first error of `take`; no further job is begun then.
pub(super) fn ordered<W, R: Send, E>(
    count: usize,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, usize) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = rayon::current_num_threads().clamp(1, count.max(1));
    let window = threads * 4;
    let shared = Shared {
        state: Mutex::new(State {
            next: 0,
            wanted: 0,
            results: BTreeMap::new(),
            stopped: false,
        }),
        changed: Condvar::new(),
    };
    let run = || {
        let stop = StopOnDrop(&shared);
        let mut own = worker();
        loop {
            let mut state = shared.lock();
            while !state.stopped && state.next < count && state.next >= state.wanted + window {
                state = shared.wait(state);
            }
            if state.stopped || state.next == count {
                break;
            }
            let job = state.next;
            state.next += 1;
            drop(state);
            let result = work(&mut own, job);
            shared.lock().results.insert(job, result);
            shared.changed.notify_all();
        }
        // An ordinary end stops nobody.
        std::mem::forget(stop);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run);
        }
        let _stop = StopOnDrop(&shared);
        for wanted in 0..count {
            let mut state = shared.lock();
            state.wanted = wanted;
            shared.changed.notify_all();
            let result = loop {
                match state.results.remove(&wanted) {
                    Some(result) => break result,
                    // A worker has panicked: the scope passes its panic on.
                    None if state.stopped => return Ok(()),
                    None => state = shared.wait(state),
                }
            };
            drop(state);
            take(result)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    }

    #[test]
    fn results_come_in_order_for_any_number_of_threads() {
        for threads in [1, 2, 4] {
            let mut seen = Vec::new();
            let result: Result<(), ()> = pool(threads).install(|| {
                ordered(
                    100,
                    || (),
                    |(), job| {
                        std::thread::sleep(std::time::Duration::from_micros((job as u64 * 37) % 200));
                        job
                    },
                    |job| {
                        seen.push(job);
                        Ok(())
                    },
                )
            });
            assert_eq!(result, Ok(()));
            assert!(seen.into_iter().eq(0..100), "{threads} threads");
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        let begun = std::sync::atomic::AtomicUsize::new(0);
        let result = pool(2).install(|| {
            ordered(
                1_000_000,
                || (),
                |(), job| {
                    begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    job
                },
                |job| if job == 5 { Err("five") } else { Ok(()) },
            )
        });
        assert_eq!(result, Err("five"));
        assert!(begun.into_inner() <= 6 + 2 * 4 + 2);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_passed_on_instead_of_waiting_for_ever() {
        let result: Result<(), ()> =
            pool(2).install(|| ordered(10, || (), |(), job| assert!(job != 3, "job three"), |()| Ok(())));
        result.unwrap();
    }
}
