// The unmodified OpenAI client streams a chat through /v1 of the demo. The
// program under test is named by LLORCH_DEMO; its engines are real children.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import OpenAI, { NotFoundError } from 'openai'

let demo, client

before(async () => {
  assert.ok(process.env.LLORCH_DEMO, 'set LLORCH_DEMO to the path of the llorch-demo binary')
  demo = spawn(process.env.LLORCH_DEMO, ['--addr', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  demo.stdout.setEncoding('utf8')
  let out = ''
  for await (const text of demo.stdout) {
    out += text
    const url = out.match(/http:\/\/[0-9.:]+/)
    if (url) {
      client = new OpenAI({ baseURL: url[0] + '/v1', apiKey: 'not-needed-on-loopback' })
      break
    }
  }
  assert.ok(client, 'the demo printed no URL')
})

after(async () => {
  demo.kill('SIGINT')
  const [code] = await once(demo, 'exit')
  assert.equal(code, 0)
})

const messages = [{ role: 'user', content: 'Why is the sky blue?' }]

test('a streamed chat arrives token by token', async () => {
  const at = []
  let text = ''
  let finish
  const stream = await client.chat.completions.create({ model: 'sim-8b', messages, max_tokens: 20, stream: true })
  for await (const chunk of stream) {
    const choice = chunk.choices[0]
    if (choice?.delta?.content) {
      at.push(performance.now())
      text += choice.delta.content
    }
    finish = choice?.finish_reason ?? finish
  }
  assert.equal(finish, 'length')
  assert.ok(text.length > 20)
  assert.equal(at.length, 20)
  assert.ok(at.at(-1) - at[0] > 50, 'all tokens came at once')
})

test('usage comes when it is asked for', async () => {
  let usage
  const stream = await client.chat.completions.create({
    model: 'sim-8b', messages, max_tokens: 5, stream: true, stream_options: { include_usage: true },
  })
  for await (const chunk of stream) usage = chunk.usage ?? usage
  assert.equal(usage.completion_tokens, 5)
})

test('a whole answer', async () => {
  const answer = await client.chat.completions.create({ model: 'sim-8b', messages, max_tokens: 7 })
  assert.equal(answer.usage.completion_tokens, 7)
  assert.ok(answer.choices[0].message.content.length > 5)
  assert.match(answer._request_id, /^[A-Za-z0-9-]{1,64}$/)
})

test('models are listed', async () => {
  const ids = []
  for await (const m of await client.models.list()) ids.push(m.id)
  assert.deepEqual(ids.sort(), ['sim-1b', 'sim-8b'])
})

test('an unknown model is the client\'s own NotFoundError', async () => {
  await assert.rejects(client.chat.completions.create({ model: 'gpt-9', messages }), NotFoundError)
})

test('an aborted stream stops', async () => {
  const stream = await client.chat.completions.create({ model: 'sim-8b', messages, max_tokens: 4000, stream: true })
  let n = 0
  for await (const _ of stream) if (++n === 5) break
  stream.controller.abort()
  const again = await client.chat.completions.create({ model: 'sim-8b', messages, max_tokens: 2 })
  assert.equal(again.usage.completion_tokens, 2)
})
