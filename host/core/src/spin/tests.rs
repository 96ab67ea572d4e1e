use std::path::Path;

use super::*;
use crate::config::{Overrides, Placeholders, parse_in};

/// Converts the text after the version, and returns the lines of the configuration and the notes.
#[track_caller]
fn check(manifest: &str, expected: &[&str], notes: &[&str]) {
    let made = convert(&format!("spin_manifest_version = 2\n{manifest}")).expect("a manifest");
    for line in expected {
        assert!(made.config.lines().any(|found| found == *line), "no {line:?} in\n{}", made.config);
    }
    assert_eq!(made.notes.len(), notes.len(), "{:#?}", made.notes);
    for (note, part) in made.notes.iter().zip(notes) {
        assert!(note.contains(part), "{note}");
    }
    let parsed = parse_in(&Placeholders, Path::new("daylily.toml"), &made.config, &Overrides::default());
    assert!(parsed.is_ok(), "{}\n{}", made.config, parsed.err().map(|error| error.to_string()).unwrap_or_default());
}

const ONE: &str = "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"one\"\n[component.one]\nsource = \"one.wasm\"\n";

#[test]
fn routes() {
    check(ONE, &["path = \"/*\"", "component = \"one.wasm\""], &[]);
    let with = |route: &str| ONE.replace("\"/...\"", route);
    check(&with("\"/cart\""), &["path = \"/cart\""], &[]);
    check(&with("\"/cart/...\""), &["path = \"/cart\"", "path = \"/cart/*\""], &[]);
    check(&with("\"/users/:id/posts\""), &["path = \"/users/*\""], &["`/users/:id/posts`"]);
    let both = format!("{ONE}[[trigger.http]]\nroute = {{ private = true }}\ncomponent = \"one\"\n");
    check(&both, &[], &["private"]);
    let inline = "[[trigger.http]]\nid = \"two\"\nroute = \"/\"\ncomponent = { source = \"two.wasm\" }\n";
    check(inline, &["path = \"/\"", "component = \"two.wasm\""], &[]);
    check(&format!("{ONE}[[trigger.redis]]\nchannel = \"a\"\n"), &[], &["`trigger.redis`"]);
    check(&format!("{ONE}[[trigger.http]]\nroute = \"/x\"\ncomponent = \"none\"\n"), &[], &["`none`"]);
}

#[test]
fn components() {
    check(&format!("{ONE}environment = {{ A = \"1\", \"b.c\" = \"\\\"2\\\"\\n\" }}\n"), &[], &[]);
    check(
        &format!("{ONE}environment = {{ A = \"1\", B = \"\\\"2\\\"\\n\" }}\n"),
        &["env = { A = \"1\", B = \"\\\"2\\\"\\n\" }"],
        &[],
    );
    check(
        &format!("{ONE}files = [\"data/**/*.json\", {{ source = \"static\", destination = \"/s\" }}]\n"),
        &["dirs = [\"data::/data:ro\", \"static::/s:ro\"]"],
        &[],
    );
    check(&format!("{ONE}files = [\"*.json\"]\n"), &[], &["the files `*.json`"]);
    check(
        &format!(
            "{ONE}allowed_outbound_hosts = [\"https://a.example/\", \"http://*.b.example:8080\", \"*://c.example:*\", \
             \"redis://r:6379\", \"*://*:*\"]\n"
        ),
        &[
            "allow_http = [\"https://a.example\", \"http://*.b.example:8080\", \"http://c.example:*\", \"https://c.example:*\"]",
        ],
        &["`redis://r:6379`", "`*://*:*`"],
    );
    check(
        &format!("{ONE}key_value_stores = [\"default\"]\nsqlite_databases = []\nai_models = [\"llama\"]\n"),
        &["[store.default]", "stores = [\"default\"]"],
        &["are new and empty", "`ai_models`"],
    );
    check(&format!("{ONE}key_value_stores = [\"a b\"]\n"), &[], &["the key-value store \"a b\""]);
    let url = ONE.replace("\"one.wasm\"", "{ url = \"https://example.com/one.wasm\", digest = \"sha256:0\" }");
    check(&url, &["component = \"one.wasm\""], &["download https://example.com/one.wasm to `one.wasm`"]);
    let package = ONE.replace("\"one.wasm\"", "{ registry = \"r.example\", package = \"a:b\", version = \"1.0.0\" }");
    check(&package, &["component = \"one.wasm\""], &["a:b"]);
}

#[test]
fn variables() {
    let manifest = "[variables]\ngreeting = { default = \"Hi\" }\ntoken = { required = true, secret = true }\n\
        host = { default = \"api.example\" }\n";
    let component = "[component.one.variables]\nname = \"value\"\nword = \"{{ greeting }}\"\nkey = \"{{token}}\"\n\
        url = \"https://{{ host }}/v1\"\nmixed = \"Bearer {{ token }}\"\n";
    let hosts = "allowed_outbound_hosts = [\"https://{{ host }}\", \"https://{{ token }}\"]\n";
    check(
        &format!("{manifest}{ONE}{hosts}{component}"),
        &[
            "vars = { key = { env = \"SPIN_VARIABLE_TOKEN\" }, name = \"value\", url = \"https://api.example/v1\", word = \"Hi\" }",
            "allow_http = [\"https://api.example\"]",
        ],
        &["`mixed`", "fermyon:spin/variables", "`https://{{ token }}`"],
    );
}

#[test]
fn builds() {
    let build = "[component.one.build]\ncommand = \"cargo build\"\nworkdir = \"one's\"\nwatch = [\"src/**/*.rs\", \"Cargo.toml\"]\n";
    check(
        &format!("{ONE}{build}"),
        &["command = \"(cd 'one'\\\\''s' && cargo build)\"", "watch = [\"one's/src\", \"one's/Cargo.toml\"]"],
        &[],
    );
    let two = "[[trigger.http]]\nroute = \"/two\"\ncomponent = \"two\"\n[component.two]\nsource = \"two.wasm\"\n\
        [component.two.build]\ncommand = [\"npm install\", \"npm run build\"]\n";
    check(
        &format!("{ONE}[component.one.build]\ncommand = \"make\"\n{two}"),
        &["command = \"make && npm install && npm run build\""],
        &[],
    );
}

#[test]
fn static_files() {
    let manifest = "[[trigger.http]]\nroute = \"/static/...\"\ncomponent = \"files\"\n[component.files]\n\
        source = { url = \"https://example.com/spin-fileserver/v1/spin_static_fs.wasm\", digest = \"sha256:0\" }\n\
        files = [{ source = \"assets\", destination = \"/\" }]\nenvironment = { FALLBACK_PATH = \"/index.html\" }\n";
    check(
        manifest,
        &["path = \"/static/*\"", "files = \"assets\"", "fallback = \"index.html\""],
        &["serves its files itself"],
    );
}

#[test]
fn refused() {
    fn check(manifest: &str, expected: &str) {
        let error = convert(manifest).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    check("a = ", "not valid TOML");
    check("", "spin_manifest_version");
    check("spin_manifest_version = \"1\"\n", "version \"1\": `spin doctor`");
    check("spin_manifest_version = 2\n", "no HTTP trigger");
}
