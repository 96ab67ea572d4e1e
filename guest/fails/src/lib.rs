//! Fails in nested functions, after it has written to stdout and stderr what the path names. Its names are not stripped;
//! the same program is built with debug information as `fails-dwarf`.

use kit::{Answer, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    match target.path() {
        "/nested" => {
            println!("counting the items");
            outer(0);
        }
        // 20 KiB in lines of ten bytes.
        "/flood" => {
            for number in 0..2048 {
                eprintln!("{number:09}");
            }
            core::arch::wasm32::unreachable();
        }
        // Fails when the client has sent all of its body.
        "/after-body" => {
            eprintln!("secret of {}", target.get("of").unwrap_or_default());
            let _ = kit::read(request.consume().expect("the only reader"), |_| true);
            outer(0);
        }
        "/after-head" => {
            let answer = Answer::start(out, 200, &[]);
            let _ = answer.write(b"partial");
            kit::pause(1);
            outer(0);
        }
        "/loop" => {
            eprintln!("looping");
            outer(1);
        }
        "/wait" => {
            eprintln!("waiting");
            kit::pause(60_000);
        }
        "/exit" => {
            eprintln!("giving up");
            std::process::exit(7);
        }
        _ => kit::text(out, "ok\n"),
    }
}

#[inline(never)]
fn outer(items: u32) {
    std::hint::black_box(inner(std::hint::black_box(items)));
}

#[inline(never)]
fn inner(items: u32) -> u32 {
    while std::hint::black_box(items) > 0 {}
    assert!(std::hint::black_box(items) > 0, "the cart is empty");
    items
}

kit::serve!(handle);
