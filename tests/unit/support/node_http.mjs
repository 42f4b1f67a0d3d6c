// Node's own HTTP, for the tests. usage: node node_http.mjs serve PORT | h1 HOST PORT TARGET… | h2 HOST PORT TARGET…
// serve: cleartext HTTP/2 by prior knowledge, answers with what it was sent. Prints "ready" once it listens.
// h1: one keep-alive connection, one request after the other. h2: one connection, all requests at once.
// Every request is a POST whose body is its own target. Ends with 1 when an answer is not what was sent.
import http from "node:http";
import http2 from "node:http2";
import process from "node:process";

const [role, ...rest] = process.argv.slice(2);

async function text(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

function check(status, body, target) {
  if (status !== 200 || body !== target) throw new Error(`${target} was answered with ${status} ${body}`);
}

function serve(port) {
  const server = http2.createServer();
  server.on("stream", async (stream) => {
    const body = await text(stream);
    stream.respond({ ":status": 200 });
    stream.end(body);
  });
  server.listen(Number(port), "0.0.0.0", () => console.log("ready"));
}

async function overHttp1(host, port, targets) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (const target of targets) {
    const answer = await new Promise((resolve, reject) => {
      const request = http.request({ host, port, path: target, method: "POST", agent }, resolve);
      request.on("error", reject);
      request.end(target);
    });
    check(answer.statusCode, await text(answer), target);
  }
  agent.destroy();
}

async function overHttp2(host, port, targets) {
  const session = http2.connect(`http://${host}:${port}`);
  await Promise.all(
    targets.map(async (target) => {
      const stream = session.request({ ":method": "POST", ":path": target });
      const answered = new Promise((resolve, reject) => stream.on("response", resolve).on("error", reject));
      stream.end(target);
      const headers = await answered;
      check(headers[":status"], await text(stream), target);
    }),
  );
  session.close();
}

if (role === "serve") serve(rest[0]);
else await { h1: overHttp1, h2: overHttp2 }[role](rest[0], rest[1], rest.slice(2));
