/** How long anything that is awaited may take. */
const PATIENCE_MS = 30_000;

/** Waits until `look` returns something that is true, and returns that. */
export async function until(what, look, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${patience} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
