//! Responds with the variable that the path names, through the interface that `via` names; with all variables for `/`.

mod draft {
    wit_bindgen::generate!({ path: "wit/draft", generate_all });

    pub use self::wasi::config::store;
}

mod spin {
    wit_bindgen::generate!({ path: "wit/spin", generate_all });

    pub use self::fermyon::spin::variables;
}

use kit::wasi::config::store;
use kit::{IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let name = target.path().trim_start_matches('/');
    let result = match (target.get("via").unwrap_or_default(), name) {
        ("rc1", "") => format!("{:?}", store::get_all()),
        ("rc1", name) => format!("{:?}", store::get(name)),
        ("draft", "") => format!("{:?}", draft::store::get_all()),
        ("draft", name) => format!("{:?}", draft::store::get(name)),
        ("spin", name) => format!("{:?}", spin::variables::get(name)),
        (other, _) => format!("unknown interface {other:?}"),
    };
    kit::text(out, &result);
}

kit::serve!(handle);
