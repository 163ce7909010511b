// Shows an OpenAPI document with Swagger UI. The page sends no requests but for the document, and
// asks for no credentials: it has neither "Try it out" nor "Authorize".

const DOCUMENTS = { public: "openapi-public.json", admin: "openapi.json" };

const asked = new URLSearchParams(location.search).get("port");
const port = Object.hasOwn(DOCUMENTS, asked) ? asked : "public";
document.querySelector(`[data-port=${port}]`).setAttribute("aria-current", "page");

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// Swagger UI leaves these without a name, or without a way to reach them with the keyboard.
const ATTRIBUTES = [
  ["#servers", "aria-label", "Server"],
  [".examples-select-element", "aria-label", "Example"],
  ["pre.example", "tabindex", "0"],
];
const complete = () => ATTRIBUTES.forEach(([selector, name, value]) => {
  for (const element of document.querySelectorAll(`${selector}:not([${name}])`)) element.setAttribute(name, value);
});
new MutationObserver(complete).observe(document.querySelector("#reference"), { childList: true, subtree: true });

// Summaries of operations are buttons, so nothing inside them may be one.
const nothing = () => () => null;
const text = () => ({ text }) => text;

SwaggerUIBundle({
  url: DOCUMENTS[port],
  dom_id: "#reference",
  deepLinking: true,
  displayOperationId: true,
  filter: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  supportedSubmitMethods: [],
  syntaxHighlight: false,
  validatorUrl: null,
  plugins: [{
    wrapComponents: {
      authorizeBtn: nothing, authorizeOperationBtn: nothing, CopyToClipboardBtn: nothing, DeepLink: text,
    },
  }],
});
