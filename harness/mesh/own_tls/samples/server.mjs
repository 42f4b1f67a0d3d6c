// An HTTPS server of Node.js: `server.mjs PEM PORT`. It answers each request with 200.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";

const pem = readFileSync(process.argv[2]);
createServer({ key: pem, cert: pem }, (request, response) => response.end("node\n")).listen(Number(process.argv[3]), "::");
