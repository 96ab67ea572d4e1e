//! A reload with a file that is not a component: nothing changes, and the error says what to do. `refusals` has the
//! same errors for `check` and `serve`.

use crate::harness::{Daylily, Setup, guest};

/// Replaces the component with a file that is not one.
type Spoil<'a> = &'a dyn Fn(&Daylily);

fn put(contents: &[u8]) -> impl Fn(&Daylily) {
    move |server| server.put("app.wasm", contents)
}

fn named(component: &str) -> impl Fn(&Daylily) {
    move |server| server.configure(|config| config.replace("app.wasm", component))
}

#[test]
fn a_reload_to_what_is_no_component_says_what_helps() {
    let hello = std::fs::read(guest("hello")).expect("a guest");
    let handler = "wasi:http/incoming-handler@0.2.0-rc-2023-12-05";
    let draft = wat::parse_str(format!(r#"(component (instance $i) (export "{handler}" (instance $i)))"#));
    let draft = draft.expect("a component");
    let server = Setup::new().route_to("app.test", "app.wasm").file("app.wasm", &hello).start();
    let config = server.config();
    let half = hello.get(..hello.len() / 2).expect("a half");
    let cases: [(&str, Spoil<'_>, i32, &str); 7] = [
        ("a component that ends early", &put(half), 65, "truncated"),
        ("a core module", &put(b"\0asm\x01\0\0\0"), 65, "core module"),
        ("a draft of WASI", &put(&draft), 65, "rebuild it for the released WASI 0.2"),
        ("a directory", &named("."), 66, "give the path of the `.wasm` file in it"),
        ("a web address", &named("https://files.example.com/app.wasm"), 66, "a web address"),
        ("a reference to a registry", &named("registry.example.com/app:1"), 66, "a reference to a registry"),
        ("a configuration", &named("daylily.toml"), 65, "pass a configuration file with `-c`"),
    ];
    for (what, spoil, code, says) in cases {
        server.put("daylily.toml", &config);
        server.put("app.wasm", &hello);
        spoil(&server);
        let refused = server.command(&["reload"]);
        assert!(refused.code == code && refused.stderr.contains(says), "{what}: {refused:?}");
        server.get("app.test", "/").expect(200, "Hello World\n");
    }
}
