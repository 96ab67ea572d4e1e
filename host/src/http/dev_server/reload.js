(() => {
  const version = new URL(document.currentScript.src).search.slice(1);
  let events;
  const close = () => {
    if (events) events.close();
    events = undefined;
  };
  const open = () => {
    close();
    if (document.hidden) return;
    events = new EventSource("/.daylily/events");
    events.onmessage = (message) => {
      if (message.data !== version) {
        close();
        location.reload();
      }
    };
    // A browser may give up when the server does not run.
    events.onerror = () => {
      if (events && events.readyState === EventSource.CLOSED) setTimeout(open, 500);
    };
  };
  document.addEventListener("visibilitychange", open);
  open();
})();
