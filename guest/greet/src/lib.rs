//! The program of the README.

use wstd::http::{Body, Client, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    match request.uri().path() {
        "/spin" => loop {},
        "/fetch" => {
            let request = Request::get("http://localhost:3000/fr/fetch").body(Body::empty())?;
            Client::new().send(request).await
        }
        path => {
            println!("greeting {path}");
            let greeting = std::env::var("GREETING").unwrap_or("Hello".into());
            Ok(Response::new(format!("{greeting} from {path}\n").into()))
        }
    }
}
