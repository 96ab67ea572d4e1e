use http::StatusCode;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::http_compat::{http_from_wasi_request, http_into_wasi_response};

struct App;

impl wasip3::exports::http::handler::Guest for App {
    // Each request runs in a new instance of the program: what it changes in a static variable is gone for the next one.
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let request = http_from_wasi_request(request)?;
        println!("{} {}", request.method(), request.uri().path()); // goes to daylily's log
        match request.uri().path() {
            "/" => {
                let greeting = std::env::var("GREETING").unwrap_or("Hello".into());
                http_into_wasi_response(http::Response::new(format!("{greeting} from {{name}}\n")))
            }
            // The body of the request is sent back while it arrives.
            "/echo" => http_into_wasi_response(http::Response::new(request.into_body())),
            _ => {
                let mut response = http::Response::new(String::from("there is no such page\n"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                http_into_wasi_response(response)
            }
        }
    }
}

wasip3::http::service::export!(App);
