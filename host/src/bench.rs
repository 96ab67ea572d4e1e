//! The steps of one request, each alone and without sockets, for `benches/steps.rs`. This is not a stable interface:
//! only the bench uses it, and it changes with the steps.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use daylily_core::config::Config;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use tokio::sync::Semaphore;

use crate::artifact::LoadError;
use crate::artifact::compile::Compiler;
use crate::call::app::App;
use crate::call::{Call, Received};
use crate::engine::call_outcome::{CallOutcome, EndedStore};
use crate::engine::pool::StackDetail;
use crate::http::inbound;
use crate::http::server::{Worker, WorkerRoute};
use crate::observe::request_id::RequestId;
use crate::wasi::state::State;
use crate::worker::load::{self, WorkerContext};

/// Above the number of polls of any step that does not wait for something outside the process.
const MAX_POLLS: u32 = 1_000;

/// The error that a bench panics with.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A worker without sockets. Its components are loaded and linked, and use pools as in a real worker.
pub struct Steps {
    worker: Worker,
}

/// A store for one request, and its instance after [`Steps::instantiate`].
pub struct Store(wasmtime::Store<State>);

/// A call that has ended. Its store is kept until this is dropped.
pub struct Called {
    /// The whole response.
    pub response: Response<Bytes>,
    _remains: EndedStore,
}

impl Steps {
    /// Compiles, loads and links all components of `config`.
    ///
    /// # Errors
    ///
    /// When a component cannot be compiled, loaded or linked.
    pub fn load(config: &Config) -> Result<Self> {
        let said = |errors: Vec<LoadError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let artifacts =
            load::artifacts(config, &Compiler::new(None, StackDetail::of(config.dev), config.missing_imports)?, &[])
                .map_err(said)?;
        let around = WorkerContext::unshared(Semaphore::MAX_PERMITS)?;
        Ok(Self { worker: load::worker(config, &artifacts, around).map_err(said)? })
    }

    /// Whether a route matches a request.
    ///
    /// # Errors
    ///
    /// When the request's target is malformed.
    pub fn route(&self, request: &Request<()>) -> Result<bool> {
        Ok(self.worker.route(&inbound::target(request)?).is_some())
    }

    /// A permit for a request to the first route, released on drop.
    ///
    /// # Errors
    ///
    /// When no permit is free.
    pub fn admit(&self) -> Result<impl Sized + use<>> {
        Ok(finish(self.worker.admission.admit(&self.first()?.share))??)
    }

    /// A new store for a request to the first route.
    ///
    /// # Errors
    ///
    /// When there is no route.
    pub fn store(&self) -> Result<Store> {
        Ok(Store(self.app()?.store()))
    }

    /// Instantiates the component in a store of [`Steps::store`].
    ///
    /// # Errors
    ///
    /// When the pool has no free slot, or the instance traps at its start.
    pub fn instantiate(&self, mut store: Store) -> Result<Store> {
        finish(self.app()?.instantiate(&mut store.0))??;
        Ok(store)
    }

    /// A whole call of the first route: makes a store and an instance, runs the guest to its end and reads its
    /// response.
    ///
    /// # Errors
    ///
    /// When the guest gives no response, does not return, or waits for something outside the process.
    pub fn call(&self, request: Request<()>) -> Result<Called> {
        let request = request.map(|()| Empty::new().map_err(|never| match never {}));
        let id = RequestId::next();
        let received = Received::plain(id, request);
        let Call { run, head, .. } = self.app()?.call(id, received);
        let response = async {
            let (parts, body) = head.await?.map_err(String::from)?.into_parts();
            Result::Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
        };
        // Polled together, because the guest may have to run for its body to be read, and vice versa.
        let (response, (outcome, ended_store)) = finish(async { tokio::join!(biased; response, run) })?;
        if outcome != CallOutcome::Done {
            return Err(format!("the guest ended: {outcome:?}").into());
        }
        Ok(Called { response: response?, _remains: ended_store })
    }

    fn app(&self) -> Result<&Arc<App>> {
        self.first()?.app.as_ref().ok_or_else(|| "the route has no component".into())
    }

    fn first(&self) -> Result<&WorkerRoute> {
        self.worker.routes.first().ok_or_else(|| "there is no route".into())
    }
}

/// Polls a step to its end, as a connection's task does with a guest that waits for nothing outside the process. An
/// event loop would add its own time, which is more than some steps take.
fn finish<T>(step: impl Future<Output = T>) -> Result<T> {
    let mut step = pin!(step);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        if let Poll::Ready(outcome) = step.as_mut().poll(&mut context) {
            return Ok(outcome);
        }
    }
    Err("it waits for something outside".into())
}
