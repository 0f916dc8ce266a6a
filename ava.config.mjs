// Tests run as TypeScript: Node strips the types itself.
export default {
  files: ['test/**/*.test.ts'],
  extensions: { ts: 'module' },
  timeout: '5m',
  workerThreads: false,
  concurrency: 2,
};
