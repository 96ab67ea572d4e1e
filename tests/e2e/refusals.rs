//! Configurations and components that daylily refuses to start with: it reports all errors and how to fix them.

use std::net::TcpListener;

use crate::harness::{each, guest, run, run_in};

const DATA_ERROR: i32 = 65;
const NO_INPUT: i32 = 66;
const UNAVAILABLE: i32 = 69;

/// The first bytes of a core module, which are a complete, empty module.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Runs both commands that read a component, with the component and with a configuration that names it.
fn check(component: &str, files: &[(&str, &[u8])], code: i32, parts: &[&str]) {
    let config = format!("[[route]]\ncomponent = '{component}'\n");
    let with_config = [files, &[("daylily.toml", config.as_bytes())]].concat();
    for arguments in [&["serve", "--listen", "127.0.0.1:0", component][..], &["check", component]] {
        let finished = run_in(files, &[], arguments);
        finished.expect(code, parts);
        assert_eq!(finished.stdout, "", "nothing runs");
    }
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["check"], &["check", "-c", "daylily.toml"]] {
        run_in(&with_config, &[], arguments).expect(code, parts);
    }
}

#[test]
fn every_import_that_nothing_provides_is_named() {
    let wants = guest("wants").display().to_string();
    check(&wants, &[], DATA_ERROR, &["wants.wasm", "example:missing/thing", "wasi:blobstore/blobstore@0.2.0-draft"]);
}

#[test]
fn what_is_no_servable_component() {
    let truncated = std::fs::read(guest("hello")).expect("a component");
    let (half, damaged) = (&truncated[..truncated.len() / 2], {
        let mut damaged = truncated.clone();
        damaged[8..64].fill(0xff);
        damaged
    });
    let draft =
        |handler: &str| wat::parse_str(format!(r#"(component (instance $i) (export "{handler}" (instance $i)))"#));
    let of_snapshot = draft("wasi:http/incoming-handler@0.2.0-rc-2023-12-05").expect("a component");
    let of_candidate = draft("wasi:http/handler@0.3.0-rc-2025-09-16").expect("a component");
    let cases: [(&str, &[u8], &[&str]); 10] = [
        ("app.toml", b"[[route]]", &["app.toml", "not WebAssembly", "pass a configuration file with `-c`"]),
        (
            "snapshot.wasm",
            &of_snapshot,
            &["snapshot.wasm", "0.2.0-rc-2023-12-05", "rebuild it for the released WASI 0.2"],
        ),
        (
            "candidate.wasm",
            &of_candidate,
            &["candidate.wasm", "0.3.0-rc-2025-09-16", "rebuild it for the released WASI 0.3"],
        ),
        ("module.wasm", CORE_MODULE, &["module.wasm", "core module", "component", "wasm32-wasip2"]),
        ("text.wasm", b"Hello World\n", &["text.wasm", "not WebAssembly"]),
        ("empty.wasm", b"", &["empty.wasm", "not WebAssembly"]),
        ("half.wasm", half, &["half.wasm", "truncated", "rebuild it or download it again"]),
        ("damaged.wasm", &damaged, &["damaged.wasm"]),
        (
            "header.wasm",
            b"\0asm\x0d\0\x01\0",
            &["header.wasm", "exports", "wasi:http/incoming-handler", "wasi:http/handler"],
        ),
        ("source.wasm", b"(component)", &["source.wasm", "not WebAssembly"]),
    ];
    each(&cases, |(name, contents, parts)| {
        check(name, &[(name, contents)], DATA_ERROR, parts);
    });
}

#[test]
fn a_component_without_an_http_handler() {
    let noexport = guest("noexport").display().to_string();
    let parts = ["noexport.wasm", "wasi:http/incoming-handler", "wasi:http/handler", "wasi:cli/run"];
    check(&noexport, &[], DATA_ERROR, &parts);
}

#[test]
fn a_file_that_cannot_be_read() {
    check("missing.wasm", &[], NO_INPUT, &["missing.wasm"]);
    check("directory", &[("directory/file", b"")], NO_INPUT, &["directory", "give the path of the `.wasm` file in it"]);
    for address in ["https://files.example.com/app.wasm", "oci://registry.example.com/app"] {
        check(address, &[], NO_INPUT, &[address, "a web address", "download it"]);
    }
    for reference in ["registry.example.com/team/app:1.0", "localhost:5000/app@sha256:00ff"] {
        check(reference, &[], NO_INPUT, &[reference, "a reference to a registry", "wkg oci pull"]);
    }
}

#[test]
fn all_components_are_looked_at_before_any_is_refused() {
    let config = format!(
        "[[route]]\nhost = 'a.test'\ncomponent = '{}'\n[[route]]\nhost = 'b.test'\ncomponent = 'module.wasm'\n",
        guest("wants").display()
    );
    let files: [(&str, &[u8]); 2] = [("daylily.toml", config.as_bytes()), ("module.wasm", CORE_MODULE)];
    let parts = ["example:missing/thing", "wasi:blobstore/blobstore", "module.wasm", "core module"];
    run_in(&files, &[], &["check"]).expect(DATA_ERROR, &parts);
}

#[test]
fn a_good_component_is_said_to_be_good() {
    for package in ["hello", "mixed02", "service03", "env"] {
        let finished = run(&["check", &guest(package).display().to_string()]);
        finished.expect(0, &[]);
        for part in [&format!("{package}.wasm\n"), "\nok: 1 route on 127.0.0.1:"] {
            assert!(finished.stdout.contains(part), "{finished:?}");
        }
    }
    let finished = run(&["check"]);
    finished.expect(0, &[]);
    assert!(finished.stdout.ends_with("ok: 1 route on 127.0.0.1:3000\n"), "{finished:?}");
    let config =
        format!("[[route]]\npath = '/a'\ncomponent = '{0}'\n[[route]]\ncomponent = '{0}'\n", guest("hello").display());
    let finished = run_in(&[("daylily.toml", config.as_bytes())], &[], &["check"]);
    finished.expect(0, &[]);
    assert!(finished.stdout.contains("\nok: 2 routes on "), "{finished:?}");
}

#[test]
fn an_address_that_cannot_be_listened_on() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).expect("an address");
    run(&["--listen", &taken.1]).expect(UNAVAILABLE, &["listen", &taken.1, "--listen"]);
    // An address reserved for documentation, which no machine has.
    run(&["--listen", "192.0.2.1:8080"]).expect(UNAVAILABLE, &["listen", "192.0.2.1:8080"]);
}

/// Port 3000 is in use, by this test or by another program, so that the error shows the default address.
#[test]
fn the_default_address_is_the_readmes() {
    let _taken = TcpListener::bind("127.0.0.1:3000");
    run(&[]).expect(UNAVAILABLE, &["127.0.0.1:3000"]);
}
