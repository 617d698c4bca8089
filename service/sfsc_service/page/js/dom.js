/** Elements as expressions. Text only ever becomes text nodes, so nothing that a service answers is markup. */

/**
 * @param {string} tag
 * @param {Object} properties set on the element; `class`, `data`, `css` (custom properties) and `aria-…` are known
 * @param {...(Node|string|number|null|undefined|false)} children
 */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "css") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name === "role" || name === "for" || name === "scope" || name.startsWith("aria-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** The radio buttons of a name, as one value. */
export function radios(name, onChange) {
  const inputs = () => [...document.querySelectorAll(`input[name="${name}"]`)];
  document.addEventListener("change", (event) => {
    if (event.target.name === name) onChange(event.target.value);
  });
  return (value) => {
    for (const input of inputs()) input.checked = input.value === value;
  };
}
