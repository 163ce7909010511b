import vue from "@vitejs/plugin-vue";

const isCustomElement = (tag) => tag === "scan-login";

export default {
  root: "pages",
  plugins: [vue({ template: { compilerOptions: { isCustomElement } } })],
  build: {
    outDir: "../built",
    rollupOptions: { input: ["pages/plain.html", "pages/react.html", "pages/vue.html"] },
  },
};
