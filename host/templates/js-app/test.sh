{{check}}

check 200 '<h1>{{name}}</h1>' /
check 200 'EventSource' /page.js
check 200 '{"greeting":"Hello, {{name}}!"}' /api/greeting
check 200 '{"greeting":"Hello, Ada!"}' '/api/greeting?name=Ada'
check 200 '{"sum":6}' /api/sum --data '{"numbers": [1, 2, 3]}'
check 200 'event: end' /api/events
check 404 'no such page' /missing
