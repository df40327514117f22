// Light or dark as Airflow around this page is, and as the browser wishes when the page is opened alone. Loaded before
// the page is painted, so not a module.
(() => {
  const own = document.documentElement;
  const follow = (theirs) => {
    const set = () => {
      own.dataset.theme = theirs.classList.contains("dark") ? "dark" : "light";
    };
    new MutationObserver(set).observe(theirs, { attributeFilter: ["class"] });
    set();
  };
  try {
    if (window.parent !== window) follow(window.parent.document.documentElement);
  } catch {
    // Not Airflow, then: another origin, which may not be looked at.
  }
  if (window.parent !== window) own.dataset.framed = "";
})();
