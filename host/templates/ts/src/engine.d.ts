// What the engine has beside the interfaces of browsers: the fetch event, and the imports of wit/world.wit.
declare function addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;

declare module "wasi:cli/environment@0.2.10" {
  export function getEnvironment(): [name: string, value: string][];
}

declare module "wasi:config/store@0.2.0-rc.1" {
  export function get(key: string): string | undefined;
}
