// node build.js WIT_DEPS OUT.wasm SOURCE.js: builds the component. `cargo xtask bench --case large` and
// `cargo xtask languages` run it.

import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { componentize } from "@bytecodealliance/componentize-js";

// The WASI version that the engine's built-in fetch-event handler is compiled for.
const ENGINE_WASI = "0.2.10";

const WORLD = `package daylily:js;

world js {
  export wasi:http/incoming-handler@${ENGINE_WASI};
}
`;

const [deps, out, sourcePath] = process.argv.slice(2);
const wit = join(dirname(out), "wit");
await mkdir(join(wit, "deps"), { recursive: true });
await writeFile(join(wit, "world.wit"), WORLD);
for (const name of await readdir(deps)) {
  // Names of the form http-0.2.12.wit; drafts are not imported.
  const version = name.match(/-(\d+\.\d+\.\d+)\.wit$/)?.[1];
  if (version) {
    const text = await readFile(join(deps, name), "utf8");
    await writeFile(join(wit, "deps", name.replace(version, ENGINE_WASI)), text.replaceAll(version, ENGINE_WASI));
  }
}

const { component } = await componentize({ sourcePath, witPath: wit, worldName: "js" });
await writeFile(out, component);
