// What programs do with Neon's two JavaScript packages, and node-postgres with the connection string that they are given. Arguments: the API's address, a key, a project.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.cwd()}/`);
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const [address, key, project] = process.argv.slice(2);

const { createApiClient } = await load('@neondatabase/api-client');
const api = createApiClient({ apiKey: key, baseURL: address });
const made = await api.createProjectBranch(project, { branch: { name: 'by-client' }, endpoints: [{ type: 'read_write' }] });
console.log('created', made.status, made.data.operations.map((it) => it.action).join());
const { default: pg } = await load('pg');
const client = new pg.Client({ connectionString: made.data.connection_uris[0].connection_uri });
await client.connect();
console.log('node-postgres', (await client.query('select current_user')).rows[0].current_user);
await client.end();
const listed = await api.listProjectBranches({ projectId: project, search: 'by-client' });
console.log('listed', listed.data.branches.length);
const deleted = await api.deleteProjectBranch({ projectId: project, branchId: made.data.branch.id });
console.log('deleted', deleted.status);
const missing = await api.getProjectBranch({ projectId: project, branchId: 'br-not-there-1' }).catch((it) => it.response);
console.log('missing', missing.status, typeof missing.data.message);

const { createNeonClient } = await load('@neon/sdk');
const neon = createNeonClient({ apiKey: key, baseUrl: address, throwOnError: true });
const branch = await neon.branches.create({ projectId: project, name: 'by-sdk' });
const uri = await neon.postgres.connectionString({ projectId: project, branchId: branch.id });
console.log('connects', uri);
