package config

import "slices"

// Table returns everything that can be set, in the order of the documents:
// by group, then as a reader meets it.
func Table() []Var {
	return slices.Concat(general(), front(), queueing(), storage(), auditing(), nodes(), daemon())
}

func both() []string  { return []string{Orchestratord, PoolManagerd} }
func orchd() []string { return []string{Orchestratord} }
func poold() []string { return []string{PoolManagerd} }

func general() []Var {
	const g = "General"
	return []Var{
		{
			Programs: both(), Group: g, Env: "LLORCH_CONFIG", Key: "config", Kind: Path,
			Unset: "~/.config/llorch/PROGRAM.toml, else /etc/llorch/PROGRAM.toml, if there is one", Doc: "configuration file",
		},
		{
			Programs: both(), Group: g, Env: "LLORCH_API_TOKEN", Aliases: []string{"AUTH_TOKEN"}, Key: "api_token", Kind: Token,
			Unset: "no token", Doc: "tokens, comma-separated, 32+ characters",
		},
		{
			Programs: both(), Group: g, Env: "LLORCH_LOG_LEVEL", Key: "log_level", Kind: Word, Default: "info",
			Enum: []string{"debug", "info", "warn", "error"}, Doc: "least level that is logged",
		},
		{
			Programs: both(), Group: g, Env: "LLORCH_LOG_FORMAT", Key: "log_format", Kind: Word, Default: "auto",
			Enum: []string{"auto", "text", "json"}, Doc: "auto: text on a terminal, else JSON",
		},
	}
}

func front() []Var {
	const g = "Front"
	return []Var{
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_ADDR", Aliases: []string{"ORCHD_ADDR"}, Key: "addr", Kind: Listen,
			Default: "127.0.0.1:8080", Doc: "beyond loopback a token is needed",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_ENGINES", Key: "engines", Kind: Engines,
			Unset: "only engines of nodes", Doc: "engines that run already, as NAME=URL",
		},
		{
			Programs: orchd(), Group: g, Env: "AUTH_OPTIONAL", Key: "auth_optional", Kind: Bool, Default: "true",
			Unset: "but false once a token is set and this is not", Doc: "local callers may omit the token",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_ALLOWED_HOSTS", Key: "allowed_hosts", Kind: Hosts,
			Unset: "loopback names and the host of addr", Doc: "names that a Host header may carry",
		},
		{
			Programs: orchd(), Group: g, Key: "body_max_bytes", Kind: Int, Unit: "bytes", Default: "8388608", Min: 1024, Max: 64 << 20,
			Doc: "largest request body", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Key: "max_streams", Kind: Int, Default: "10000", Min: 1, Max: 1_000_000,
			Doc: "event streams open at once", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Key: "sse_heartbeat_ms", Kind: Int, Unit: "ms", Default: "15000", Min: 1000, Max: 60_000,
			Doc: "silence until a stream gets a comment", Rare: true,
		},
	}
}

func queueing() []Var {
	const g = "Tasks"
	const day = 24 * 3600 * 1000
	return []Var{
		{
			Programs: orchd(), Group: g, Env: "ORCHD_ADMISSION_CAPACITY", Key: "admission_capacity", Kind: Int, Default: "100",
			Min: -1, Max: 1_000_000, Doc: "waiting tasks; -1 no bound, 0 rejects all",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHD_ADMISSION_POLICY", Key: "admission_policy", Kind: Word, Default: "reject",
			Enum: []string{"reject", "drop-lru", "shed-low-priority"}, Doc: "what a full queue does",
		},
		{
			Programs: orchd(), Group: g, Key: "default_timeout_ms", Kind: Int, Unit: "ms", Default: "300000", Min: 1000, Max: day,
			Doc: "time of a task without a deadline", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Key: "max_timeout_ms", Kind: Int, Unit: "ms", Default: "1800000", Min: 1000, Max: day,
			Doc: "longest time of any task", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Key: "queue_timeout_ms", Kind: Int, Unit: "ms", Default: "0", Min: 0, Max: day,
			Doc: "longest wait in the queue; 0 = the task's time", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Key: "startup_timeout_ms", Kind: Int, Unit: "ms", Default: "60000", Min: 1000, Max: day,
			Doc: "a model's load without progress", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Key: "batch_promote_secs", Kind: Int, Unit: "secs", Default: "300", Min: 1, Max: 86400,
			Doc: "wait after which a task goes first", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Key: "session_ttl_ms", Kind: Int, Unit: "ms", Default: "600000", Min: 1000, Max: day,
			Doc: "how long an unused session is kept", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_PLACEMENT_STRATEGY", Key: "placement_strategy", Kind: Word, Default: "least-loaded",
			Enum: []string{"least-loaded", "most-vram-free", "round-robin", "predicted"}, Doc: "which of the fitting workers",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_DECISION_LOG", Key: "decision_log", Kind: Path,
			Unset: "decisions are not recorded", Doc: "folder for records of all decisions",
		},
		{
			Programs: orchd(), Group: g, Key: "allowed_regions", Kind: Words, Unset: "everywhere",
			Doc: "countries or groups where tasks may run",
		},
		{
			Programs: orchd(), Group: g, Key: "event_ttl_secs", Kind: Int, Unit: "secs", Default: "600", Min: 10, Max: 86400,
			Doc: "how long ended streams can be read", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Key: "drain_secs", Kind: Int, Unit: "secs", Default: "30", Min: 0, Max: 3600,
			Doc: "time for running tasks at shutdown",
		},
		{
			Programs: orchd(), Group: g, Key: "cancel_secs", Kind: Int, Unit: "secs", Default: "5", Min: 1, Max: 3600,
			Doc: "time that a stopped call has to end", Rare: true,
		},
	}
}

func storage() []Var {
	const g = "Store"
	return []Var{
		{
			Programs: orchd(), Group: g, Env: "LLORCH_STATE_DIR", Key: "state_dir", Kind: Path,
			Unset: "$STATE_DIRECTORY, else ~/.local/state/llorch", Doc: "database, audit log and keys",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_STORE", Key: "store", Kind: Store, Default: "sqlite:STATE/llorch.db",
			Doc: "memory or sqlite:PATH",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_DATA_KEY_FILE", Key: "data_key_file", Kind: Path, Default: "STATE/data.key",
			Doc: "seals all content; made if absent",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_RETENTION_DAYS", Key: "retention_days", Kind: Int, Unit: "days", Default: "7",
			Min: 1, Max: 36500, Doc: "how long ended tasks are listed",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_REPLICA_ID", Key: "replica_id", Kind: Text,
			Unset: "the host's name and a random part", Doc: "name of this process", Rare: true,
		},
	}
}

func auditing() []Var {
	const g = "Audit"
	return []Var{
		{
			Programs: orchd(), Group: g, Env: "LLORCH_AUDIT_MODE", Key: "audit_mode", Kind: Word, Default: "disabled",
			Enum: []string{"disabled", "local"}, Doc: "local writes an audit log here",
		},
		{
			Programs: orchd(), Group: g, Env: "LLORCH_AUDIT_FLUSH", Key: "audit_flush", Kind: Word, Default: "hybrid",
			Enum: []string{"immediate", "batched", "hybrid"}, Doc: "when audit events are synced", Rare: true,
		},
		{
			Programs: orchd(), Group: g, Env: "LLORCH_AUDIT_LOG_PATH", Key: "audit_log_path", Kind: Path, Default: "STATE/audit",
			Doc: "folder of the audit log",
		},
	}
}

func nodes() []Var {
	const g = "Nodes"
	return []Var{
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_NODE_TIMEOUT_SECS", Key: "node_timeout_secs", Kind: Int, Unit: "secs",
			Default: "30", Min: 3, Max: 300, Doc: "silence after which a node is offline",
		},
		{
			Programs: orchd(), Group: g, Env: "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS", Key: "heartbeat_interval_secs", Kind: Int,
			Unit: "secs", Default: "10", Min: 1, Max: 60, Doc: "at most a third of node_timeout_secs",
		},
		{
			Programs: orchd(), Group: g, Key: "allow_addresses", Kind: Words, Unset: "private, and loopback while addr is on loopback",
			Enum: []string{"private", "loopback", "public"}, Doc: "networks where nodes may be", Rare: true,
		},
	}
}

func daemon() []Var {
	const g = "Node daemon"
	return []Var{
		{
			Programs: poold(), Group: g, Env: "POOL_MANAGERD_ADDR", Key: "addr", Kind: Listen, Default: "127.0.0.1:9200",
			Doc: "a token is always needed",
		},
		{
			Programs: poold(), Group: g, Env: "POOL_MANAGERD_NODE_ID", Key: "node_id", Kind: Text, Unset: "the host's name",
			Doc: "name of this node",
		},
		{
			Programs: poold(), Group: g, Env: "LLORCH_REGION", Key: "region", Kind: Region, Default: "UNKNOWN",
			Doc: "where this machine stands",
		},
		{
			Programs: poold(), Group: g, Env: "POOL_MANAGERD_ADDRESS", Key: "address", Kind: URL, Unset: "http:// and addr",
			Doc: "URL by which the orchestrator reaches it",
		},
		{
			Programs: poold(), Group: g, Env: "ORCHESTRATORD_URL", Key: "orchestratord_url", Kind: URLs,
			Unset: "the node serves its engines and registers nowhere", Doc: "orchestrators, tried in turn",
		},
		{
			Programs: poold(), Group: g, Env: "POOL_MANAGERD_RUNTIME_DIR", Key: "runtime_dir", Kind: Path, Default: ".runtime/engines",
			Doc: "the engines' logs and keys",
		},
		{
			Programs: poold(), Group: g, Env: "POOL_MANAGERD_GPU_PROVIDER", Key: "gpu_provider", Kind: GPU, Default: "auto",
			Doc: "auto, nvml, none or fake:FILE",
		},
		{
			Programs: poold(), Group: g, Env: "POOL_MANAGERD_REQUIRE_GPU", Key: "require_gpu", Kind: Bool, Default: "false",
			Doc: "no engine may run without a GPU",
		},
		{
			Programs: poold(), Group: g, Env: "POOL_MANAGERD_MODEL_DIR", Key: "model_dir", Kind: Path, Unset: "models below runtime_dir",
			Doc: "verified models, of one daemon",
		},
		{
			Programs: poold(), Group: g, Key: "rebuild_models", Kind: Bool, Default: "false",
			Doc: "make a damaged index anew", Rare: true,
		},
		{
			Programs: poold(), Group: g, Key: "local_models", Kind: Path, Unset: "callers can name no file",
			Doc: "callers may name its files: file:NAME, model_path", Rare: true,
		},
		{
			Programs: poold(), Group: g, Env: "POOL_MANAGERD_ALLOW_DOWNLOADS", Key: "allow_downloads", Kind: Bool, Default: "true",
			Doc: "models may be fetched when asked for",
		},
		{
			Programs: poold(), Group: g, Key: "download_hosts", Kind: Hosts, Unset: "huggingface.co and the hosts that deliver its files",
			Doc: "where models may come from", Rare: true,
		},
		{
			Programs: poold(), Group: g, Key: "trust_policy", Kind: Word, Default: "permissive", Enum: []string{"permissive", "strict"},
			Doc: "strict: with stated digests only", Rare: true,
		},
		{
			Programs: poold(), Group: g, Key: "leave_running", Kind: Bool, Default: "false",
			Doc: "engines outlive the daemon", Rare: true,
		},
		{
			Programs: poold(), Group: g, Key: "handoff_dir", Kind: Path, Unset: "no folder is followed",
			Doc: "files of others that say where an engine runs", Rare: true,
		},
		{
			Programs: poold(), Group: g, Key: "watch_interval_ms", Kind: Int, Unit: "ms", Default: "1000", Min: 100, Max: 10_000,
			Doc: "how often handoff_dir is looked at", Rare: true,
		},
		{
			Programs: poold(), Group: g, Key: "binaries", Kind: Binaries, Unset: "no pool can be started",
			Doc: "programs for pools, as NAME=ABSOLUTE PATH",
		},
	}
}
