import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The page's own server hands /api on to Headrace. A key, where Headrace wants one, stays here.
const { HEADRACE_URL = "http://127.0.0.1:8000", HEADRACE_KEY } = process.env;
const proxy = {
  "/api": {
    target: HEADRACE_URL,
    headers: HEADRACE_KEY ? { Authorization: `Bearer ${HEADRACE_KEY}` } : {},
    // What breaks off behind this proxy breaks off in front of it, too. By itself it would wait forever.
    configure: (server) => server.on("proxyRes", (from, _, to) => from.on("aborted", () => to.destroy())),
  },
};

export default defineConfig({ plugins: [react()], server: { proxy }, preview: { proxy } });
