const list = document.querySelector("#items");
const rest = document.querySelector("#rest");
const problem = document.querySelector("#problem");

async function call(path, method, body) {
  const response = await fetch(path, { method, body: body && JSON.stringify(body) });
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    throw new Error(error ?? `the server answered ${response.status}`);
  }
  return response.status === 204 ? undefined : response.json();
}

// Does what the user wants, and shows the list as the server has it then, or why that failed.
async function change(what) {
  try {
    await what();
    show(await call("/api/items", "GET"));
    problem.hidden = true;
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

function show(items) {
  list.replaceChildren(...items.map(row));
  const left = items.filter((item) => !item.done).length;
  rest.textContent = items.length === 0 ? "Nothing to do." : `${left} of ${items.length} left`;
}

function row({ id, title, done }) {
  const item = document.createElement("li");
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = done;
  box.addEventListener("change", () => change(() => call(`/api/items/${id}`, "PUT", { done: box.checked })));
  label.append(box, document.createTextNode(title));
  const remove = document.createElement("button");
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${title}`);
  remove.addEventListener("click", () => change(() => call(`/api/items/${id}`, "DELETE")));
  item.append(label, remove);
  return item;
}

document.querySelector("#add").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  change(async () => {
    await call("/api/items", "POST", { title: new FormData(form).get("title") });
    form.reset();
  });
});

change(async () => {});
