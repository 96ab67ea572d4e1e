// node cluster.js PORT PROCESSES: serves http.js from several processes.
const cluster = require("node:cluster");

if (cluster.isPrimary) {
  for (let n = 0; n < Number(process.argv[3]); n++) cluster.fork();
} else {
  require("./http.js");
}
