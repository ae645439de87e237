"""Tools that people label in: one module each, all behind :class:`~oracle_svc.queues.queue.Queue`."""
