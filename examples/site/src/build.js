// Fills public/index.html with src/page.md and writes the result to build/.
const fs = require("fs");
const path = require("path");
const { marked } = require("marked");

const root = path.join(__dirname, "..");
const page = marked.parse(fs.readFileSync(path.join(__dirname, "page.md"), "utf8"));
const shell = fs.readFileSync(path.join(root, "public", "index.html"), "utf8");
fs.mkdirSync(path.join(root, "build"), { recursive: true });
fs.writeFileSync(path.join(root, "build", "index.html"), shell.replace("<!-- page -->", page));
