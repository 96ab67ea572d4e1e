//! Middleware. It is called by the variable `NAME`. If the request has a field `x-act` that begins with `NAME=`, the rest
//! of it is what this middleware does; else it passes the request on, and adds its name to the response.

use std::future::poll_fn;

use wasi::http::client;
use wasi::http::handler;
use wasi::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wit_bindgen::spawn_local;

use exports::wasi::http::handler::Guest;

wit_bindgen::generate!({ path: "../../wit/0.3", world: "wasi:http/middleware", generate_all });

struct Component;

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let name = std::env::var("NAME").unwrap_or_default();
        let act = field(&request, "x-act").unwrap_or_default();
        let act = act.strip_prefix(&format!("{name}=")).unwrap_or("pass");
        match act {
            "plain" => handler::handle(request).await,
            "deny" => {
                let (response, _sent) = Response::new(Fields::new(), None, wit_future::new(|| Ok(None)).1);
                response.set_status_code(401).unwrap();
                Ok(response)
            }
            "trap" => core::arch::wasm32::unreachable(),
            "burn" => loop {
                std::hint::black_box(0);
            },
            "error" => Err(ErrorCode::InternalError(Some("boom".into()))),
            "trap-after" => {
                let response = handler::handle(request).await?;
                drop(response);
                Ok(partial())
            }
            // A new request, with another path and one more field.
            "rewrite" => {
                let path = field(&request, "x-path");
                let fields = request.get_headers().clone();
                let _ = fields.append("x-by", name.as_bytes());
                let (body, end) = Request::consume_body(request, wit_future::new(|| Ok(())).1);
                let (request, _sent) = Request::new(fields, Some(body), end, None);
                request.set_path_with_query(path.as_deref()).unwrap();
                handler::handle(request).await
            }
            // Asks what follows again while it still answers.
            "twice" => {
                let first = handler::handle(made("/silent?ms=500"));
                let second = handler::handle(made("/"));
                spawn_local(async move {
                    let _ = first.await;
                });
                // The first one begins.
                wasi::clocks::monotonic_clock::wait_for(10_000_000).await;
                second.await
            }
            // Gives up the first request, and asks again at once.
            "retry" => retry().await,
            // A request with the authority in `x-authority`, if there is one.
            "host" => {
                let authority = field(&request, "x-authority");
                let request = made("/");
                request.set_authority(authority.as_deref()).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
                handler::handle(request).await
            }
            // One after the other.
            "again" => {
                drop(handler::handle(made("/first")).await?);
                handler::handle(request).await
            }
            "send" => {
                let url = field(&request, "x-url").unwrap_or_default();
                let request = made("/");
                request.set_authority(Some(&url)).unwrap();
                client::send(request).await
            }
            _ => Ok(tagged(handler::handle(request).await?, &name)),
        }
    }
}

fn field(request: &Request, name: &str) -> Option<String> {
    let value = request.get_headers().get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// A GET request.
fn made(path: &str) -> Request {
    let (request, _sent) = Request::new(Fields::new(), None, wit_future::new(|| Ok(None)).1, None);
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_path_with_query(Some(path)).unwrap();
    request
}

/// Gives up a request to what follows, and sends another one at once.
async fn retry() -> Result<Response, ErrorCode> {
    let mut first = Box::pin(handler::handle(made("/silent?ms=600000")));
    let mut time = Box::pin(wasi::clocks::monotonic_clock::wait_for(50_000_000));
    poll_fn(|cx| {
        let _ = first.as_mut().poll(cx);
        time.as_mut().poll(cx)
    })
    .await;
    drop(first);
    handler::handle(made("/")).await
}

/// The same response with one more field.
fn tagged(response: Response, name: &str) -> Response {
    let status = response.get_status_code();
    let fields = response.get_headers().clone();
    let _ = fields.append("x-passed", name.as_bytes());
    let (body, end) = Response::consume_body(response, wit_future::new(|| Ok(())).1);
    let (response, _sent) = Response::new(fields, Some(body), end);
    response.set_status_code(status).unwrap();
    response
}

/// A response that is never finished.
fn partial() -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (response, _sent) = Response::new(Fields::new(), Some(reader), wit_future::new(|| Ok(None)).1);
    spawn_local(async move {
        writer.write_all(b"partial".to_vec()).await;
        core::arch::wasm32::unreachable()
    });
    response
}

export!(Component);
