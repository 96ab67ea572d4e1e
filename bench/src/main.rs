//! `daylily-bench ADDR:PORT THREADS`: responds as the measured guests do, but without guests, as a lower bound for the
//! cost of a request: hyper with the settings of daylily's `http/h1/mod.rs`, one single-threaded event loop per thread,
//! each with its own listening socket.

use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// daylily's values, with its default limits.
const MAX_HEAD_BYTES: usize = 64 << 10;
const BUFFER_BYTES: usize = 64 << 10;
const BACKLOG: i32 = 4096;

type Body = Either<Full<Bytes>, Incoming>;

/// Not anyhow: its default features would make cargo build daylily's dependencies again.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (address, threads) = args.next().zip(args.next()).ok_or("usage: daylily-bench ADDR:PORT THREADS")?;
    let address: SocketAddr = address.parse()?;
    let threads: usize = threads.parse()?;
    let mut running = Vec::new();
    for _ in 0..threads.clamp(1, 256) {
        // All are bound before any of them serves, so that an error ends the program.
        let listener = listen(address).map_err(|error| format!("failed to listen on {address}: {error}"))?;
        running.push(thread::spawn(move || serve(listener)));
    }
    for thread in running {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn serve(listener: std::net::TcpListener) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            // The client may have closed the connection, or descriptors may have run out: try the next connection.
            if let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(connection(stream));
            } else {
                tokio::task::yield_now().await;
            }
        }
    }))
}

async fn connection(stream: tokio::net::TcpStream) {
    // A client may end its connection in any way, so an error is no failure.
    let _ = http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES + MAX_HEAD_BYTES)
        .half_close(true)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Body>, std::convert::Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => {
            let mut response = Response::new(Either::Left(Bytes::from_static(b"Hello World\n").into()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        (&Method::POST, "/echo") => Response::new(Either::Right(request.into_body())),
        _ => {
            let mut response = Response::new(Either::Left(Bytes::new().into()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}
