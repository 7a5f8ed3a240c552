// Answers of a server on stdin, as JSON: [{method, path, status, body}], where `path` is a path of the OpenAPI document that
// `@neondatabase/api-client` ships. Prints what in them that document does not allow, one line each.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.cwd()}/`);
const Ajv = require('ajv').default;
const addFormats = require('ajv-formats').default;
const { parse } = require('yaml');

const file = 'node_modules/@neondatabase/api-client/public-v2-for-users.gen.yaml';
const document = parse(readFileSync(file, 'utf8'));
const ajv = new Ajv({ strict: false, allErrors: true });
addFormats(ajv);
for (const format of ['int', 'int32', 'int64', 'float', 'double']) ajv.addFormat(format, true);
ajv.addSchema(document, 'neon');

function check({ method, path, status, body }) {
  const what = `${method.toUpperCase()} ${path} ${status}`;
  const operation = document.paths[path]?.[method];
  if (!operation) return [`${what}: there is no such operation`];
  const escaped = path.replaceAll('~', '~0').replaceAll('/', '~1');
  const response = operation.responses[status] ? status : 'default';
  let at = `/paths/${escaped}/${method}/responses/${response}`;
  let found = operation.responses[response];
  if (found?.$ref) {
    at = found.$ref.slice(1);
    found = at.slice(1).split('/').reduce((node, key) => node[key], document);
  }
  if (!found?.content) return [`${what}: it says nothing of such an answer`];
  const validate = ajv.compile({ $ref: `neon#${encodeURI(at)}/content/application~1json/schema` });
  if (validate(body)) return [];
  return validate.errors.map((error) => `${what}: ${error.instancePath} ${error.message}`);
}

const answers = JSON.parse(readFileSync(0, 'utf8'));
const wrong = answers.flatMap(check);
console.log(wrong.join('\n'));
