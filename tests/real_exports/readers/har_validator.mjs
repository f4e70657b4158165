// An archive, held against the schemas of HAR 1.2.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const validator = require("har-validator/lib/promise");
const document = JSON.parse(readFileSync(process.argv[3], "utf8"));
await validator.har(document);
console.log(JSON.stringify({ entries: document.log.entries.length }));
