// An HTTPS client of Node.js: `client.mjs URL…` asks each of them, on one connection.
import { Agent, get } from "node:https";

const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
for (const url of process.argv.slice(2)) {
  await new Promise((resolve, reject) => {
    get(url, { agent }, (response) => response.resume().on("end", resolve)).on("error", reject);
  });
}
agent.destroy();
