//! The threads for the file calls of guests: a small pool for each route.
//!
//! wasmtime-wasi makes its system calls on the blocking pool of the current tokio runtime. A call that does not return
//! (a network file system whose server is unreachable) blocks its thread even after its guest has ended. With one pool
//! for all routes, the blocked calls of one route would eventually take every thread from the other routes and from
//! name lookups. Therefore each route has a runtime that is used only as a small blocking pool, and calls that have
//! outlived their guests are counted.

use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use daylily_core::log_target;
use tokio::runtime::{Builder, EnterGuard, Runtime};

use crate::sys::lock::lock;

/// The number of threads for the file calls of one route, in each worker.
pub(crate) const MAX_THREADS: usize = 16;

/// How long an idle thread of the pool is kept.
const IDLE: Duration = Duration::from_secs(10);

/// A weak reference to an object that a call keeps alive while it is in progress: its file, or an object made for it.
pub(super) type Token = Weak<dyn Any + Send + Sync>;

/// The thread pool of one route, and the calls that block its threads.
pub(crate) struct RouteFiles {
    route: Arc<str>,
    /// Created on first use; None when that failed.
    pool: OnceLock<Option<Pool>>,
    /// Calls that have outlived their guests. A call is over when its token has no strong reference left.
    abandoned: Mutex<Vec<Token>>,
    /// Whether abandoned calls block all threads.
    is_blocked: AtomicBool,
}

/// A runtime of which only the blocking pool is used.
struct Pool(Option<Runtime>);

/// All threads of a route are blocked.
#[derive(Debug, thiserror::Error)]
#[error("all {MAX_THREADS} file threads of the route are blocked by calls that do not return")]
pub(crate) struct Blocked;

/// A call in progress. Dropped before its end, it counts as abandoned until it is over.
pub(super) struct Call {
    files: Arc<RouteFiles>,
    token: Token,
    pub(super) is_over: bool,
}

impl RouteFiles {
    pub(crate) fn new(route: Arc<str>) -> Arc<Self> {
        Arc::new(Self { route, pool: OnceLock::new(), abandoned: Mutex::default(), is_blocked: AtomicBool::new(false) })
    }

    /// Runs `work` on the route's pool and returns its result. If the future is dropped, a call in progress continues.
    ///
    /// # Errors
    ///
    /// When the route's threads are blocked, or the system cannot create a thread.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let token = Arc::new(());
        let weak: Weak<()> = Arc::downgrade(&token);
        let call = self.begin(weak).map_err(io::Error::other)?;
        let task = {
            let _entered = self.enter();
            tokio::task::spawn_blocking(move || {
                let done = work();
                drop(token);
                done
            })
        };
        call.run(task).await.map_err(io::Error::other)
    }

    /// Starts a call. If it is abandoned, it counts as in progress until `token` has no strong reference left.
    pub(super) fn begin(self: &Arc<Self>, token: Token) -> Result<Call, Blocked> {
        if self.is_blocked.load(Relaxed) {
            return Err(Blocked);
        }
        Ok(Call { files: Arc::clone(self), token, is_over: false })
    }

    /// Enters the route's runtime: until the guard is dropped, `spawn_blocking` uses the route's threads.
    pub(super) fn enter(&self) -> Option<EnterGuard<'_>> {
        let pool = self.pool.get_or_init(|| {
            let built = Builder::new_current_thread()
                .max_blocking_threads(MAX_THREADS)
                .thread_keep_alive(IDLE)
                .thread_name("files")
                .build();
            match built {
                Ok(runtime) => Some(Pool(Some(runtime))),
                Err(error) => {
                    tracing::error!(
                        target: log_target::FILES,
                        route = %self.route, "failed to start file threads: {error}"
                    );
                    None
                }
            }
        });
        pool.as_ref()?.0.as_ref().map(Runtime::enter)
    }

    fn abandon(&self, token: Token) {
        lock(&self.abandoned).push(token);
        self.blocked_calls();
    }

    /// How many calls have outlived their guests and are still in progress.
    pub(crate) fn blocked_calls(&self) -> usize {
        let mut abandoned = lock(&self.abandoned);
        abandoned.retain(|token| token.strong_count() > 0);
        let calls = abandoned.len();
        let is_blocked = calls >= MAX_THREADS;
        if self.is_blocked.swap(is_blocked, Relaxed) != is_blocked {
            let route = &self.route;
            if is_blocked {
                tracing::error!(
                    target: log_target::FILES,
                    %route,
                    "all {MAX_THREADS} file threads are blocked by calls that outlived their requests: further \
                     calls fail with `busy`; check the file systems of the granted directories"
                );
            } else {
                tracing::info!(target: log_target::FILES, %route, "file threads are free again");
            }
        }
        calls
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Relaxed)
    }
}

impl Call {
    /// Drives `future`, whose blocking calls run on the route's threads.
    pub(super) async fn run<F: Future>(mut self, future: F) -> F::Output {
        let output = {
            let mut future = pin!(future);
            poll_fn(|context| {
                let _entered = self.files.enter();
                future.as_mut().poll(context)
            })
            .await
        };
        self.is_over = true;
        output
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_over {
            self.files.abandon(self.token.clone());
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Dropping the runtime would wait for its threads.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// What would wait for ever without the guarantee fails instead.
    async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
        let Ok(output) = tokio::time::timeout(Duration::from_secs(10), future).await else { panic!("{what}") };
        output
    }

    #[tokio::test]
    async fn calls_that_outlive_their_guests_are_counted_until_they_end() {
        let files = RouteFiles::new("a".into());
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        for calls in 1..=MAX_THREADS {
            assert!(!files.is_blocked());
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let ended = Arc::clone(&ended);
            let work = move || {
                let _ = begun.send(());
                let _ = lock(&ended).recv();
            };
            let mut call = Box::pin(files.run(work));
            tokio::select! {
                _ = &mut call => panic!("it does not return"),
                begun = in_time("it has no thread", has_begun) => begun.expect("a thread"),
            }
            assert_eq!(files.blocked_calls(), calls - 1, "its guest waits for it");
            drop(call);
            assert_eq!(files.blocked_calls(), calls);
        }
        let refused = in_time("it is not refused", files.run(|| ())).await.expect_err("a free thread");
        assert!(refused.to_string().contains("blocked"), "{refused}");
        let other = RouteFiles::new("b".into());
        assert_eq!(in_time("it has no threads of its own", other.run(|| 7)).await.expect("a thread"), 7);
        drop(end);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while files.blocked_calls() > 0 {
            assert!(std::time::Instant::now() < deadline, "they have ended");
            tokio::task::yield_now().await;
        }
        assert_eq!(files.run(|| 7).await.expect("a free thread"), 7);
    }

    #[tokio::test]
    async fn calls_beyond_the_number_of_threads_wait_for_one() {
        const CALLS: usize = 4 * MAX_THREADS;
        let files = RouteFiles::new("a".into());
        let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel::<()>();
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..CALLS {
            let (files, begin, ended) = (Arc::clone(&files), begin.clone(), Arc::clone(&ended));
            let work = move || {
                let _ = begin.send(());
                let _ = lock(&ended).recv();
            };
            calls.spawn(async move { files.run(work).await });
        }
        for _ in 0..MAX_THREADS {
            in_time("a call has no thread", begun.recv()).await.expect("a call");
        }
        for _ in MAX_THREADS..CALLS {
            assert!(begun.try_recv().is_err(), "more than {MAX_THREADS} calls run at a time");
            end.send(()).expect("a call in progress");
            in_time("the thread is not free again", begun.recv()).await.expect("a call");
        }
        drop(end);
        while let Some(call) = in_time("a call does not end", calls.join_next()).await {
            call.expect("a task").expect("a thread");
        }
    }
}
