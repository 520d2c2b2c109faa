// Light or dark, before the first paint: the system's choice unless this browser was told otherwise.
// A plain script, not a module: modules run after the page was drawn once. Owns the storage of the
// choice. Beside it the console keeps in a browser only which doors were used (api.js), never a key.
"use strict";
(() => {
  const name = "safelight.theme";
  const stored = () => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // storage is switched off: the choice lives as long as the page
    }
  };
  const apply = (choice) => {
    if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
    else delete document.documentElement.dataset.theme;
  };
  apply(stored());
  globalThis.safelightTheme = {
    get: () => document.documentElement.dataset.theme ?? "system",
    set(choice) {
      apply(choice);
      try {
        if (choice === "system") localStorage.removeItem(name);
        else localStorage.setItem(name, choice);
      } catch {
        // as above
      }
      dispatchEvent(new Event("themechange"));
    },
  };
})();
