{{check}}

check 200 '<h1>{{name}}</h1>' /
check 200 'api/items' /page.js
check 201 '"title":"Buy lilies","done":false}' /api/items --data '{"title": "Buy lilies"}'
id=$(printf '%s' "$response" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
check 200 "{\"id\":$id,\"title\":\"Buy lilies\",\"done\":true}" "/api/items/$id" --request PUT --data '{"done": true}'
check 200 "{\"id\":$id,\"title\":\"Buy lilies\",\"done\":true}" /api/items
check 204 '' "/api/items/$id" --request DELETE
check 404 'no such item' "/api/items/$id" --request PUT --data '{"done": true}'
check 400 'a title has' /api/items --data '{}'
check 404 'no such page' /missing
