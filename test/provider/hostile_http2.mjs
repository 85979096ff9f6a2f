// A provider that speaks HTTP/2 and means harm: the last message of a request names what it gets.
// usage: node hostile_http2.mjs CERTIFICATE KEY    prints `listening on 127.0.0.1:PORT`, serves until SIGTERM.
import { readFileSync } from "node:fs";
import { constants, createSecureServer } from "node:http2";
import { gzipSync } from "node:zlib";

const answer = JSON.stringify({ choices: [{ message: { content: "fine" }, finish_reason: "stop" }] });
const head = { ":status": 200, "content-type": "application/json" };

// Writes as fast as it is taken, until the client has had enough.
function pour(stream, bytes) {
  const more = () => {
    while (!stream.destroyed && stream.write(bytes));
  };
  stream.on("drain", more);
  more();
}

const behaviours = {
  fine(stream) {
    stream.respond(head);
    stream.end(answer);
  },
  // Pieces for about two seconds: what runs beside the others.
  slow(stream) {
    stream.respond(head);
    const pieces = [answer.slice(0, -1), ...Array(20).fill(" "), "}"];
    const timer = setInterval(() => {
      if (pieces.length > 0) return stream.write(pieces.shift());
      clearInterval(timer);
      stream.end();
    }, 100);
  },
  long_header(stream) {
    stream.respond({ ...head, "x-long": "x".repeat(60_000), "x-longer": "x".repeat(60_000) });
    stream.end(answer);
  },
  interim_storm(stream) {
    const more = () => {
      for (let i = 0; i < 100 && !stream.destroyed; ++i) stream.additionalHeaders({ ":status": 103, "x-padding": "x".repeat(100) });
      if (!stream.destroyed) setImmediate(more);
    };
    more();
  },
  endless(stream) {
    stream.respond(head);
    pour(stream, "[".repeat(16_384));
  },
  comments(stream) {
    stream.respond({ ...head, "content-type": "text/event-stream" });
    pour(stream, ": still there\n\n".repeat(1_000));
  },
  drip(stream) {
    stream.respond(head);
    const timer = setInterval(() => (stream.destroyed ? clearInterval(timer) : stream.write(" ")), 100);
  },
  gzip(stream) {
    stream.respond({ ...head, "content-encoding": "gzip" });
    stream.end(gzipSync(answer + " ".repeat(100 << 20)));
  },
  reset_before_head(stream) {
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  },
  reset_in_body(stream) {
    stream.respond(head);
    // close() would send the end of the stream first, and with it a whole answer; destroy() resets it (INTERNAL_ERROR).
    stream.write(answer.slice(0, 20), () => stream.destroy(new Error("reset")));
  },
  refused(stream) {
    stream.close(constants.NGHTTP2_REFUSED_STREAM);
  },
  too_long(stream) {
    stream.respond({ ...head, "content-length": 20 });
    stream.end(answer);
  },
  too_short(stream) {
    stream.respond({ ...head, "content-length": 500 });
    stream.end(answer);
  },
  // All that runs on the connection breaks with it.
  goaway(stream) {
    stream.respond(head);
    stream.write(answer.slice(0, 20), () => {
      stream.session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      stream.session.destroy();
    });
  },
};

const server = createSecureServer({
  cert: readFileSync(process.argv[2]),
  key: readFileSync(process.argv[3]),
  maxSendHeaderBlockLength: 1 << 20,
});
server.on("session", (session) => session.on("error", () => {}));
server.on("stream", (stream) => {
  let body = "";
  stream.on("error", () => {});
  stream.on("data", (bytes) => (body += bytes));
  stream.on("end", () => {
    const name = JSON.parse(body).messages.at(-1).content;
    try {
      (behaviours[name] ?? behaviours.fine)(stream);
    } catch (error) {
      console.error(`${name}: ${error.message}`);
      stream.destroy();
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
process.on("SIGTERM", () => process.exit(0));
