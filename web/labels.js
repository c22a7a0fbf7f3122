/** Writes words into the elements that ask for them: `data-word` for what they say, `data-hint` for their tooltip. */

/**
 * @param {Record<string, string>} words by the names that elements give
 * @param {ParentNode} root
 */
export function label(words, root = document) {
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-word], [data-hint]"))) {
    const { word, hint } = element.dataset;
    if (word && Object.hasOwn(words, word)) element.textContent = words[word];
    if (hint && Object.hasOwn(words, hint)) element.title = words[hint];
  }
}
