(() => {
  // The page that a frame is in loads it again.
  if (window.top !== window) return;
  const version = new URL(document.currentScript.src).search.slice(1);
  let events, timer;
  const close = () => {
    clearTimeout(timer);
    if (events) events.close();
    events = undefined;
  };
  const openAfter = (milliseconds) => {
    close();
    timer = setTimeout(open, milliseconds);
  };
  // Once for each version: a page that a service worker has kept is of the same version again.
  const isNew = (other) => {
    try {
      if (sessionStorage.getItem("daylily") === other) return false;
      sessionStorage.setItem("daylily", other);
    } catch {
      // A page may not have storage.
    }
    return true;
  };
  const open = () => {
    close();
    if (document.hidden) return;
    events = new EventSource("/.daylily/events");
    events.onmessage = ({ data }) => {
      if (data !== version && isNew(data)) {
        close();
        location.reload();
      }
    };
    // The server that has answered drains: another one takes over, or none does.
    events.addEventListener("again", () => openAfter(20));
    events.onerror = () => openAfter(200);
  };
  document.addEventListener("visibilitychange", open);
  open();
})();
