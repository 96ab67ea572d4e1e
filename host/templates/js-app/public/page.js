const greeting = document.querySelector("#greeting");

document.querySelector("#greet").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = new FormData(event.target).get("name");
  try {
    const response = await fetch(`/api/greeting?name=${encodeURIComponent(name)}`);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    greeting.textContent = (await response.json()).greeting;
  } catch (error) {
    greeting.textContent = `No greeting: ${error.message}`;
  }
});

const start = document.querySelector("#start");
const events = document.querySelector("#events");

start.addEventListener("click", () => {
  start.disabled = true;
  events.replaceChildren();
  const source = new EventSource("/api/events");
  const add = (text) => {
    const item = document.createElement("li");
    item.textContent = text;
    events.append(item);
  };
  // Without this, the browser would connect again.
  const end = () => {
    source.close();
    start.disabled = false;
  };
  source.addEventListener("count", (event) => {
    const { count, time } = JSON.parse(event.data);
    add(`event ${count} at ${new Date(time).toLocaleTimeString()}`);
  });
  source.addEventListener("end", end);
  source.addEventListener("error", () => {
    add("the connection was lost");
    end();
  });
});
