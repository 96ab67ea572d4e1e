use wstd::http::{Body, Error, Request, Response, StatusCode};

// Each request runs in a new instance of the program: what it changes in a static variable is gone for the next request.
#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    println!("{} {}", request.method(), request.uri().path()); // goes to daylily's log
    match request.uri().path() {
        "/" => {
            let greeting = std::env::var("GREETING").unwrap_or("Hello".into());
            Ok(Response::new(format!("{greeting} from {{name}}\n").into()))
        }
        // The body of the request is sent back while it arrives.
        "/echo" => Ok(Response::new(request.into_body())),
        _ => Ok(Response::builder().status(StatusCode::NOT_FOUND).body("there is no such page\n".into())?),
    }
}
