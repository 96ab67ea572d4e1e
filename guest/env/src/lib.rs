//! Responds with its grants (environment, arguments, directories), and with the results of the operations that the
//! query names: `read`, `write`, `tcp`, `resolve` and `var`.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs as _};

use kit::wasi::cli::environment::{get_arguments, get_environment};
use kit::wasi::config::store;
use kit::wasi::filesystem::preopens::get_directories;
use kit::{IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let mut environment = get_environment();
    environment.sort();
    let mut lines: Vec<_> = environment.iter().map(|(name, value)| format!("env {name}={value}")).collect();
    lines.push(format!("args {}", get_arguments().len()));
    lines.extend(get_directories().iter().map(|(_, path)| format!("dir {path}")));
    for (what, which) in kit::target(&request).query() {
        let outcome = attempt(what, which).unwrap_or_else(|error| format!("error: {error}"));
        lines.push(format!("{what} {which}: {outcome}"));
    }
    lines.push(String::new());
    kit::text(out, &lines.join("\n"));
}

fn attempt(what: &str, which: &str) -> Result<String, String> {
    let done = |()| "done".to_string();
    match what {
        "read" => fs::read_to_string(which).map_err(text),
        "write" => fs::write(which, "written").map(done).map_err(text),
        "tcp" => TcpStream::connect(which).map(|_| done(())).map_err(text),
        "resolve" => (which, 80).to_socket_addrs().map(|all| format!("{} addresses", all.count())).map_err(text),
        "var" => match store::get(which) {
            Ok(value) => Ok(value.unwrap_or("none".into())),
            Err(error) => Err(text(error)),
        },
        _ => Err("unknown".into()),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

kit::serve!(handle);
