// Starts aimock, an independent player of OpenAI and Anthropic, with the fixtures beside this file.
// Prints `listening on 127.0.0.1:PORT` and serves until SIGTERM.
import { fileURLToPath } from "node:url";
import { LLMock } from "@copilotkit/aimock";

const peer = new LLMock({ port: 0, host: "127.0.0.1", strict: true, chunkSize: 5 });
peer.loadFixtureDir(fileURLToPath(new URL("fixtures", import.meta.url)));
await peer.start();
console.log(`listening on 127.0.0.1:${peer.port}`);

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => peer.stop().finally(() => process.exit(0)));
}
