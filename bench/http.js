// node http.js PORT: responds as the measured guests do, from one process.
const http = require("node:http");

const server = http.createServer((request, response) => {
  if (request.method === "POST") {
    request.pipe(response);
  } else {
    response.setHeader("content-type", "text/plain");
    response.end("Hello World\n");
  }
});
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
