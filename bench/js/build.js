// node build.js WIT_DEPS OUT.wasm SOURCE.js [WORLD.wit]: builds the component, of a world of its own or one with the
// export only. `cargo xtask bench --case large` and `cargo xtask languages` run it.

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

const [deps, out, sourcePath, world] = process.argv.slice(2);
const wit = join(dirname(out), "wit");
await mkdir(join(wit, "deps"), { recursive: true });
for (const name of await readdir(deps)) {
  // Names of the form http-0.2.12.wit; all others are of drafts.
  const version = name.match(/-(0\.2\.\d+)\.wit$/)?.[1];
  const text = await readFile(join(deps, name), "utf8");
  if (version) {
    await writeFile(join(wit, "deps", name.replace(version, ENGINE_WASI)), text.replaceAll(version, ENGINE_WASI));
  } else if (world) {
    await writeFile(join(wit, "deps", name), text);
  }
}
const text = world ? (await readFile(world, "utf8")).replace(/(wasi:http\/.*@)[0-9.]+/, `$1${ENGINE_WASI}`) : WORLD;
await writeFile(join(wit, "world.wit"), text);

const { component } = await componentize({ sourcePath, witPath: wit, worldName: text.match(/world (\S+)/)[1] });
await writeFile(out, component);
