//! `?read=`, `?write=`, `?append=` and `?list=` PATH: does that in the first granted directory, and responds with the
//! result: `read PATH: contents`, or `error: CODE`.

use exports::wasi::http::handler::Guest;
use query::Target;
use wasi::filesystem::preopens::get_directories;
use wasi::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasi::http::types::{ErrorCode as HttpError, Fields, Request, Response};
use wit_bindgen::spawn_local;

wit_bindgen::generate!({ path: "../../wit/0.3", generate_all });

struct Component;

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, HttpError> {
        let target = Target::parse(&request.get_path_with_query().unwrap_or_default());
        let mut lines = String::new();
        for (what, path) in target.query() {
            let outcome = attempt(what, path).await.unwrap_or_else(|code| format!("error: {code:?}"));
            lines += &format!("{what} {path}: {outcome}\n");
        }
        let (mut writer, body) = wit_stream::new();
        spawn_local(async move { drop(writer.write_all(lines.into_bytes()).await) });
        Ok(Response::new(Fields::new(), Some(body), wit_future::new(|| Ok(None)).1).0)
    }
}

async fn attempt(what: &str, path: &str) -> Result<String, ErrorCode> {
    let (granted, _) = get_directories().into_iter().next().ok_or(ErrorCode::NoEntry)?;
    let open = |open: OpenFlags, flags: DescriptorFlags| {
        granted.open_at(PathFlags::SYMLINK_FOLLOW, path.to_owned(), open, flags)
    };
    let to_write = OpenFlags::CREATE;
    match what {
        "read" => read(&open(OpenFlags::empty(), DescriptorFlags::READ).await?).await,
        "list" => {
            let (entries, end) = open(OpenFlags::DIRECTORY, DescriptorFlags::READ).await?.read_directory();
            let mut names: Vec<_> = entries.collect().await.into_iter().map(|entry| entry.name).collect();
            end.await?;
            names.sort();
            Ok(names.join(" "))
        }
        _ => {
            let file = open(to_write, DescriptorFlags::READ | DescriptorFlags::WRITE).await?;
            let (mut writer, data) = wit_stream::new();
            spawn_local(async move { drop(writer.write_all(vec![b'w'; 20_000]).await) });
            if what == "append" {
                file.append_via_stream(data).await?
            } else {
                file.write_via_stream(data, 0).await?
            }
            Ok(format!("{} bytes", file.stat().await?.size))
        }
    }
}

async fn read(file: &Descriptor) -> Result<String, ErrorCode> {
    let (contents, end) = file.read_via_stream(0);
    let bytes = contents.collect().await;
    end.await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

export!(Component);
