// Command standin stands where vLLM stands in its image: it takes `vllm serve` command lines and answers as vLLM 0.32
// does to probes, requests and signals, with no model. What it does wrong on purpose is asked of it by variables:
//
//	STANDIN_START_SECONDS  the port opens only then, as vLLM's does once the engine runs
//	STANDIN_TOKEN_MILLIS   time between two streamed tokens
//	STANDIN_LAST_WORDS     ends with this error, through the logging configuration that vLLM would read
//	STANDIN_ALLOCATE_MIB   takes so much memory
//
// GET /standin/self tells what the process may do; POST /standin/hang makes it answer nothing any more.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type server struct {
	model    string
	pause    time.Duration
	draining atomic.Bool
	hanging  atomic.Bool
	running  atomic.Int64
}

func main() {
	if len(os.Args) < 3 || os.Args[1] != "serve" {
		refuse("a command is required: serve")
	}
	flags := parse(os.Args[3:])
	if text := os.Getenv("STANDIN_LAST_WORDS"); text != "" {
		os.Exit(sayLastWords(text))
	}
	time.Sleep(time.Duration(number("STANDIN_START_SECONDS", 0)) * time.Second)
	allocate(number("STANDIN_ALLOCATE_MIB", 0))
	os.Exit(serve(flags))
}

// parse reads the flags that matter here; a flag with "no-such" in its name is one that vLLM does not know.
func parse(arguments []string) map[string]string {
	found := map[string]string{"port": "8000", "served-model-name": os.Args[2], "shutdown-timeout": "0"}
	for index, argument := range arguments {
		name, isFlag := strings.CutPrefix(argument, "--")
		if strings.Contains(name, "no-such") {
			refuse("unrecognized arguments: " + argument)
		}
		if isFlag && index+1 < len(arguments) {
			found[name] = arguments[index+1]
		}
	}
	return found
}

func refuse(reason string) {
	fmt.Fprintf(os.Stderr, "usage: vllm serve [model_tag] [options]\nvllm: error: %s\n", reason)
	os.Exit(2)
}

// sayLastWords writes an error where vLLM's logging configuration sends errors, and the line that vLLM ends with.
func sayLastWords(text string) int {
	var config struct {
		Handlers map[string]struct{ Level, Filename string }
	}
	content, err := os.ReadFile(os.Getenv("VLLM_LOGGING_CONFIG_PATH"))
	if err == nil {
		err = json.Unmarshal(content, &config)
	}
	if err != nil {
		log.Print(err)
		return 3
	}
	for _, handler := range config.Handlers {
		if handler.Filename == "" || handler.Level != "ERROR" {
			continue
		}
		file, err := os.OpenFile(handler.Filename, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			log.Print(err)
			return 3
		}
		fmt.Fprintf(file, "ERROR 11-23 00:00:00 [core.py:1]\n%s\n", text)
		file.Close()
	}
	// More than the kubelet would keep of a log stands between the cause and the end.
	fmt.Print(strings.Repeat("(APIServer pid=7)   File \"/usr/lib/python3/dist-packages/vllm/somewhere.py\"\n", 100))
	fmt.Println("RuntimeError: Engine core initialization failed. See root cause above.")
	return 1
}

func allocate(mebibytes int) {
	held := make([]byte, mebibytes<<20)
	for index := 0; index < len(held); index += os.Getpagesize() {
		held[index] = 1
	}
}

func serve(flags map[string]string) int {
	state := &server{
		model: flags["served-model-name"],
		pause: time.Duration(number("STANDIN_TOKEN_MILLIS", 50)) * time.Millisecond,
	}
	listener := &http.Server{Addr: ":" + flags["port"], Handler: state.answers()}
	timeout, err := strconv.Atoi(flags["shutdown-timeout"])
	if err != nil {
		refuse("argument --shutdown-timeout: invalid int value: " + flags["shutdown-timeout"])
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	ended := make(chan error, 1)
	go func() { ended <- listener.ListenAndServe() }()
	select {
	case err := <-ended:
		log.Print(err)
		return 1
	case <-signals:
	}
	state.drain(time.Duration(timeout) * time.Second)
	_ = listener.Close()
	return 0
}

// drain refuses new requests and waits for those that run, as vLLM does with --shutdown-timeout.
func (s *server) drain(longest time.Duration) {
	s.draining.Store(true)
	deadline := time.Now().Add(longest)
	for s.running.Load() > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *server) answers() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"object": "list", "data": []any{map[string]any{"id": s.model, "object": "model"}}})
	})
	routes.HandleFunc("POST /v1/chat/completions", s.complete)
	routes.HandleFunc("GET /standin/self", describe)
	routes.HandleFunc("POST /standin/hang", func(http.ResponseWriter, *http.Request) { s.hanging.Store(true) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.hanging.Load() {
			<-r.Context().Done()
			return
		}
		routes.ServeHTTP(w, r)
	})
}

// complete streams as many tokens as are asked for.
func (s *server) complete(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		http.Error(w, `{"error":{"message":"the engine is shutting down"}}`, http.StatusInternalServerError)
		return
	}
	s.running.Add(1)
	defer s.running.Add(-1)
	var wanted struct {
		MaxTokens int `json:"max_tokens"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&wanted); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Standin-Pod", os.Getenv("HOSTNAME"))
	for token := range wanted.MaxTokens {
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%d \"}}]}\n\n", token)
		w.(http.Flusher).Flush()
		if !sleep(r.Context(), s.pause) {
			return
		}
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func sleep(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(duration):
		return true
	}
}

// describe tells who the process is and what it may write: `?write=PATH` tries a file in that directory.
func describe(w http.ResponseWriter, r *http.Request) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	self := map[string]string{}
	for _, line := range strings.Split(string(status), "\n") {
		if name, value, found := strings.Cut(line, ":"); found {
			self[name] = strings.TrimSpace(value)
		}
	}
	writes := map[string]string{}
	for _, directory := range r.URL.Query()["write"] {
		writes[directory] = tryToWrite(directory)
	}
	var shared syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &shared); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, map[string]any{
		"status": self, "writes": writes, "shm_bytes": int64(shared.Blocks) * shared.Bsize,
		"args": os.Args[1:], "env": os.Environ(),
	})
}

func tryToWrite(directory string) string {
	file, err := os.CreateTemp(directory, "standin")
	if err != nil {
		var number syscall.Errno
		if errors.As(err, &number) {
			return number.Error()
		}
		return err.Error()
	}
	file.Close()
	os.Remove(file.Name())
	return ""
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}

func number(variable string, otherwise int) int {
	value, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return otherwise
	}
	return value
}
