// node build.js SOURCE: esbuild puts the program and the packages that it imports into dist/app.js, and componentize-js
// makes the component dist/app.wasm of that and a JavaScript engine.
import { writeFile } from "node:fs/promises";
import { builtinModules } from "node:module";
import { componentize } from "@bytecodealliance/componentize-js";
import { build } from "esbuild";

// Says what is wrong with a module of Node.js, unless a package of this name is installed.
const withoutNode = {
  name: "without-node",
  setup(build) {
    const filter = new RegExp(`^(node:.*|${builtinModules.join("|")})$`);
    build.onResolve({ filter }, async ({ path, pluginData, ...place }) => {
      if (pluginData === "resolved") return;
      const found = await build.resolve(path, { ...place, pluginData: "resolved" });
      if (found.errors.length === 0) return found;
      const text = `"${path}" is a module of Node.js, and the component has no Node.js in it (see README.md)`;
      return { errors: [{ text }] };
    });
  },
};

function fail(text) {
  console.error(`build.js: ${text}`);
  process.exit(1);
}

try {
  await build({
    entryPoints: [process.argv[2]],
    outfile: "dist/app.js",
    bundle: true,
    // dist/app.js.map, by which `daylily dev` shows stacks with places in src/.
    sourcemap: true,
    sourcesContent: false,
    format: "esm",
    external: ["wasi:*"],
    logLevel: "warning",
    plugins: [withoutNode],
  });
} catch {
  fail("esbuild failed, for the reason above");
}

try {
  const { component } = await componentize({ sourcePath: "dist/app.js", witPath: "wit", worldName: "app" });
  await writeFile("dist/app.wasm", component);
} catch (error) {
  const [, called] = error.message.match(/unknown imported function: '(.*?)'/) ?? [];
  fail(
    called
      ? `the top level of the program runs now, at build time, and calls a function of ${called}: call it in the handler`
      : error.message,
  );
}
