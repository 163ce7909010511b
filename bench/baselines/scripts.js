// The broker's own Redis scripts. SCRIPTS: their texts by name, as JSON.

const TEXTS = JSON.parse(process.env.SCRIPTS);

// Returns a function that runs a script: run(name, keys, arguments).
export async function loadScripts(client) {
  const names = Object.keys(TEXTS);
  const hashes = await Promise.all(names.map((name) => client.scriptLoad(TEXTS[name])));
  const shas = Object.fromEntries(names.map((name, index) => [name, hashes[index]]));
  return (name, keys, values) => client.evalSha(shas[name], { keys, arguments: values.map(String) });
}
