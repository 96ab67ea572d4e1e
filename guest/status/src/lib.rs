//! `/204` responds with status 204, a content-length of 5 and the body `hello`, whether or not a response with that
//! status may have them. `/nobody/204` sends neither of them.

use kit::{Answer, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let path = target.path().trim_start_matches('/');
    let bare = path.strip_prefix("nobody/");
    let Ok(status) = bare.unwrap_or(path).parse() else {
        return kit::text(out, "which status?\n");
    };
    if bare.is_some() {
        return Answer::start(out, status, &[]).finish(None);
    }
    let answer = Answer::start(out, status, &[("content-length", "5")]);
    let _ = answer.write(b"hello");
    answer.finish(None);
}

kit::serve!(handle);
