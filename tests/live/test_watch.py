# SPDX-License-Identifier: MIT
"""ladewerk.watch(): what is saved is live soon, and who asked is told."""
import pytest
from reloading import run

FILES = {"c.py": "VERSION = 0\n", "a.py": "from c import VERSION\n"}

BEGIN = """
import a, queue
import ladewerk._reload._sources as sources
sources.SAVING = 30  # between truncation and writing this program may be kept waiting
told = queue.Queue()
def wait(wanted):
    end = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.002)
"""


@pytest.fixture
def watched(tree):
    def run_it(code, files=FILES):
        return run(tree, files, BEGIN.replace("\n", "\n        ") + code)
    return run_it


def test_saves_are_live_and_errors_are_told(watched):
    watched("""
        with ladewerk.watch(told.put, roots=[ROOT]) as watch:
            write("c.py", "VERSION = 1\\n")
            assert told.get(timeout=30).changed == ("c",) and mod("a").VERSION == 1
            replace("c.py", "VERSION = 2\\n")
            assert told.get(timeout=30).changed == ("c",) and mod("a").VERSION == 2
            write("c.py", "VERSION = = 3\\n")
            error = told.get(timeout=30)
            assert isinstance(error, ReloadError) and error.line == 1 and mod("a").VERSION == 2
            write("notes.txt", "nothing that was imported")
            write("c.py", "VERSION = 4\\n")
            while isinstance(done := told.get(timeout=30), ReloadError):
                pass  # one save may be seen as two
            assert done.changed == ("c",) and mod("a").VERSION == 4 and told.empty()
            (ROOT / "late.py").write_text("V = 1\\n")
            import late
            write("late.py", "V = 22\\n")
            wait(lambda: mod("late").V == 22)
        assert not watch._thread.is_alive()
        write("c.py", "VERSION = 5\\n")
        assert watch.reloader.reload().changed == ("c",), "nobody has reloaded it meanwhile"
    """)


def test_a_module_imported_later_and_saved_at_once(watched):
    watched("""
        with ladewerk.watch(told.put, roots=[ROOT]) as watch:
            (ROOT / "late.py").write_text("V = 1\\n")
            import late
            write("late.py", "V = 22\\n")
            wait(lambda: mod("late").V == 22)
    """)


def test_saves_where_nothing_had_been_imported_from(watched):
    watched("""
        sys.dont_write_bytecode = True  # or the kernel would tell of the cache's directory
        with ladewerk.watch(told.put, roots=[ROOT]) as watch:
            write("c.py", "VERSION = 1\\n")
            assert told.get(timeout=30).changed == ("c",)
            import package.inner.late
            write("package/inner/late.py", "V = 22\\n")
            wait(lambda: mod("package.inner.late").V == 22)
    """, {**FILES, "package/__init__.py": "", "package/inner/__init__.py": "", "package/inner/late.py": "V = 1\n"})


def test_thirty_saves_5_ms_apart(watched):
    watched("""
        with ladewerk.watch(told.put, roots=[ROOT]):
            for i in range(30):
                write("c.py", "VERSION = %d\\n" % i)
                time.sleep(0.005)
            wait(lambda: mod("a").VERSION == 29)
        while not told.empty():
            assert not isinstance(told.get(), ReloadError), "a file that was being written was executed"
    """)


def test_stop_from_the_callback_and_an_error_in_it(watched):
    watched("""
        import logging
        logging.disable()
        def on_change(what):
            told.put(what)
            if what.executed:
                watch.stop()
            1 / 0
        watch = ladewerk.watch(on_change, roots=[ROOT])
        write("c.py", "VERSION = 1\\n")
        assert told.get(timeout=30).changed == ("c",)
        watch._thread.join(30)
        assert not watch._thread.is_alive()
        watch.stop()
    """)


def test_without_inotify_stamps_are_compared(watched):
    watched("""
        from ladewerk import _live
        def refuse():
            raise OSError("no instances left")
        import ladewerk._reload._reloader as reloader
        reloader._live = types.SimpleNamespace(**vars(_live))
        reloader._live.Events = refuse
        with ladewerk.watch(told.put, roots=[ROOT]):
            write("c.py", "VERSION = 1\\n")
            assert told.get(timeout=30).changed == ("c",) and mod("a").VERSION == 1
    """)


def test_a_body_that_is_executed_again_cannot_watch(watched):
    """It would wait for the reload it is part of; with a timer the process would not end by itself."""
    watched("""
        threading.Timer(50, os._exit, (1,)).start()
        write("c.py", "import ladewerk\\nwatch = ladewerk.watch()\\nVERSION = 1\\n")
        error = fails()
        assert "watch() within a reload" in str(error) and error.name == "c" and mod("a").VERSION == 0
        os._exit(0)
    """)


def test_readers_who_do_not_let_go_are_tried_again(watched):
    watched("""
        held, done = threading.Event(), threading.Event()
        def reader():
            with pinned():
                held.set()
                done.wait(30)
        thread = threading.Thread(target=reader)
        thread.start()
        held.wait(30)
        with ladewerk.watch(told.put, roots=[ROOT], patience=0.05):
            write("c.py", "VERSION = 1\\n")
            assert isinstance(told.get(timeout=30), ReloadError)
            done.set()
            wait(lambda: mod("a").VERSION == 1)
        thread.join()
    """)
