/* SPDX-License-Identifier: MIT */
/*
 * lazy_settings: what is asked for, by whom, and the policy that comes of it.
 *
 * The mode is that of LADEWERK_LAZY, else that of the file which `ladewerk enable --lazy` has left. Where they say only that imports are to be lazy ("1"), the project
 * may say how. Rules are those that are shipped (lazy_rules.txt), then the project's, then those of LADEWERK_LAZY_RULES, by which `ladewerk lazy-check` tries
 * some: later ones win.
 *
 * The project is the nearest pyproject.toml with a table [tool.ladewerk.lazy], from the current directory upwards. One that cannot be understood or read makes
 * everything eager: what it excludes may be what the program needs.
 *
 * Nothing of this is looked at but for one small file (is the environment enabled?), unless lazy imports are asked for.
 */
#include "lazy.h"
#include "lazy_rules.h" /* lazy_shipped: made from lazy_rules.txt by CMakeLists.txt */
#include "pyc.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROJECT_LIMIT = 4 << 20 };

/* --- files --- */

/* A regular file as a string, with its SIZE; of the caller. NULL with errno. */
static char *read_text(const char *path, size_t *size)
{
	struct lw_stat st;
	void *data = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return NULL;
	int error = lw_stat_fd(fd, &st);
	if (!error)
		error = S_ISREG(st.mode) ? lw_read_whole(fd, &st, PROJECT_LIMIT, &data, size) : -EISDIR;
	close(fd);
	if (error)
		return errno = -error, NULL;
	((char *)data)[*size] = '\0'; /* there is room for it */
	return data;
}

/* PATH without its last COUNT parts; false: it has not as many. */
static bool go_up(char *path, int count)
{
	for (; count; count--) {
		char *slash = strrchr(path, '/');
		if (!slash || !path[1])
			return false;
		slash[slash == path] = '\0'; /* the first one stays */
	}
	return true;
}

/* --- ladewerk enable --lazy --- */

/* What _enable.py writes ahead of the mode. */
static const char ENABLED[] = "\n# lazy=";

/* The mode in the file that enables an environment, if it is in DIRECTORY: 1, and *MODE is "" where none is in it; 0: there is no such file. */
static int mode_in(const char *directory, char *mode, size_t mode_size, struct lw_lazy_settings *settings)
{
	size_t size;
	char path[PATH_MAX];
	char *text = (size_t)snprintf(path, sizeof(path), "%s/ladewerk_enabled.pth", directory) < sizeof(path) ? read_text(path, &size) : NULL;
	if (!text)
		return 0;
	const char *found = strstr(text, ENABLED);
	*mode = '\0';
	if (found) {
		found += strlen(ENABLED);
		snprintf(mode, mode_size, "%.*s", (int)strcspn(found, "\n"), found);
		strcpy(settings->by, path);
	}
	free(text);
	return 1;
}

/* A str of the interpreter in BUFFER; "" where it is none. */
static void take_path(PyObject *object, char *buffer, size_t size)
{
	const char *text = object && PyUnicode_Check(object) ? PyUnicode_AsUTF8(object) : NULL;
	if (!text)
		PyErr_Clear();
	snprintf(buffer, size, "%s", text && strlen(text) < size ? text : "");
}

/* As ladewerk_start.py: beside the package, or in the environment that the interpreter is in. */
static void mode_of_environment(lw_state *state, char *mode, size_t size, struct lw_lazy_settings *settings)
{
	char package[PATH_MAX], prefix[PATH_MAX], directory[PATH_MAX];
	PyObject *file = PyModule_GetFilenameObject(state->module);
	PyErr_Clear();
	take_path(file, package, sizeof(package));
	Py_XDECREF(file);
	take_path(PyDict_GetItemString(state->sys_dict, "prefix"), prefix, sizeof(prefix));
	if (go_up(package, 2) && mode_in(package, mode, size, settings))
		return;
	if ((size_t)snprintf(directory, sizeof(directory), "%s/lib/python%d.%d/site-packages", prefix, PY_MAJOR_VERSION, PY_MINOR_VERSION) < sizeof(directory))
		mode_in(directory, mode, size, settings);
}

/* --- the project --- */

static int distrust(struct lw_lazy_settings *settings, const char *format, const char *path, const char *why)
{
	snprintf(settings->reason, sizeof(settings->reason), format, path, why);
	return -1;
}

/* 1: PATH is the project's; 0: it is no such file, or has no table of ours; -1: that cannot be told, or it is wrong. */
static int read_project(const char *path, struct lw_lazy_project *project, struct lw_lazy_settings *settings)
{
	size_t size;
	char *text = read_text(path, &size);
	if (!text && (errno == ENOENT || errno == ENOTDIR || errno == EISDIR))
		return 0;
	if (!text)
		return distrust(settings, "%s cannot be read (%s); make it readable, or start elsewhere", path, strerror(errno));
	int result = 0;
	if (memmem(text, size, "ladewerk", 8)) {
		lw_lazy_project_parse(text, project);
		if (strlen(text) != size)
			result = distrust(settings, "%s, line %s", path, "?: there is a null character in it");
		else
			result = *project->reason ? distrust(settings, "%s, %s", path, project->reason) : project->there;
		if (result <= 0)
			lw_lazy_project_clear(project);
	}
	free(text);
	return result;
}

/* The project that DIRECTORY is in; then DIRECTORY is that of its pyproject.toml. As read_project(). */
static int find_project(char *directory, struct lw_lazy_project *project, struct lw_lazy_settings *settings)
{
	char path[PATH_MAX], here[PATH_MAX];
	int found = 0;
	strcpy(here, directory);
	do {
		if ((size_t)snprintf(path, sizeof(path), "%s/pyproject.toml", here[1] ? here : "") < sizeof(path))
			found = read_project(path, project, settings);
	} while (!found && go_up(here, 1));
	if (found)
		strcpy(settings->project, path);
	if (found > 0)
		strcpy(directory, here);
	return found;
}

/* --- the user's own roots --- */

enum { ROOTS = 4 };

struct roots {
	char path[ROOTS][PATH_MAX];
	const char *list[ROOTS + 1];
	size_t count;
};

static void add_root(struct roots *roots, const char *path)
{
	if (*path != '/' || roots->count == ROOTS || strlen(path) >= PATH_MAX)
		return;
	roots->list[roots->count] = strcpy(roots->path[roots->count], path);
	roots->count++;
}

/* Where the script lies that is run, as it was named and as it is. */
static void add_script(struct roots *roots, lw_state *state, const char *current)
{
	char kind, path[PATH_MAX], real[PATH_MAX];
	const char *script = lw_entry_point(state, &kind);
	if (!script || kind != '/')
		return;
	if ((size_t)snprintf(path, sizeof(path), "%s%s%s", *script == '/' ? "" : current, *script == '/' ? "" : "/", script) >= sizeof(path))
		return;
	if (realpath(path, real) && go_up(real, 1))
		add_root(roots, real);
	if (go_up(path, 1))
		add_root(roots, path);
}

/* The current directory as the shell calls it, which may be through a link. */
static void add_logical(struct roots *roots, const char *current)
{
	struct stat named, real;
	const char *pwd = getenv("PWD");
	if (pwd && strcmp(pwd, current) != 0 && stat(pwd, &named) == 0 && stat(current, &real) == 0 && named.st_dev == real.st_dev && named.st_ino == real.st_ino)
		add_root(roots, pwd);
}

/* --- all of it --- */

static const char *variable(bool use_env, const char *name)
{
	const char *value = use_env ? getenv(name) : NULL;
	return value && *value ? value : NULL;
}

/* The text of all rules; of the caller. NULL without memory. */
static char *all_rules(const struct lw_lazy_project *project, const char *further)
{
	char *text;
	return asprintf(&text, "%s%s%s", lazy_shipped, project->rules ? project->rules : "", further ? further : "") < 0 ? NULL : text;
}

/* The policy of settings->mode, in CURRENT, which is the project's directory. */
static int make_policy(const struct lw_lazy_project *project, const struct roots *roots, const char *further, struct lw_lazy_settings *settings)
{
	char *rules = all_rules(project, further);
	if (!rules)
		return -1;
	settings->policy = lw_lazy_policy_create(settings->mode, rules, roots->list, settings->reason, sizeof(settings->reason));
	free(rules);
	if (settings->policy)
		*settings->reason = '\0';
	else
		settings->mode = LW_LAZY_OFF;
	return 0;
}

/* SAID: the mode; "1" leaves it to the project. */
static int apply(lw_state *state, const char *said, const char *further, struct lw_lazy_settings *settings)
{
	struct lw_lazy_project project = { 0 };
	struct roots roots = { 0 };
	char current[PATH_MAX], directory[PATH_MAX];
	if (!getcwd(current, sizeof(current)))
		strcpy(current, "/"); /* it was removed */
	strcpy(directory, current);
	if (find_project(directory, &project, settings) < 0)
		return settings->mode = LW_LAZY_OFF, 0;
	if (project.has_mode && strcmp(said, "1") == 0) {
		settings->mode = project.mode;
		strcpy(settings->by, settings->project);
	}
	add_root(&roots, directory);
	add_script(&roots, state, current);
	add_logical(&roots, current);
	int result = settings->mode == LW_LAZY_OFF ? 0 : make_policy(&project, &roots, further, settings);
	lw_lazy_project_clear(&project);
	return result;
}

int lw_lazy_settings_find(lw_state *state, bool use_env, struct lw_lazy_settings *settings)
{
	char enabled[32] = "";
	const char *said = variable(use_env, "LADEWERK_LAZY");
	*settings = (struct lw_lazy_settings){ .mode = LW_LAZY_OFF };
	if (said)
		strcpy(settings->by, "LADEWERK_LAZY");
	else {
		mode_of_environment(state, enabled, sizeof(enabled), settings);
		said = enabled;
	}
	if (!*said)
		return 0;
	if (!lw_lazy_parse_mode(said, &settings->mode)) {
		snprintf(settings->reason, sizeof(settings->reason), "%s says '%.100s', which is not default, own, all or 0", settings->by, said);
		return 0;
	}
	if (settings->mode == LW_LAZY_OFF || apply(state, said, variable(use_env, "LADEWERK_LAZY_RULES"), settings) == 0)
		return 0;
	PyErr_NoMemory();
	return -1;
}

lw_lazy_policy *lw_lazy_shipped(void)
{
	char reason[512];
	return lw_lazy_policy_create(LW_LAZY_ALL, lazy_shipped, (const char *const[]){ NULL }, reason, sizeof(reason));
}

/* --- for the command line and for tests --- */

/* The roots in SEQUENCE, as C strings that it owns; NULL at the end. NULL with an exception. */
static const char **roots_of(PyObject *sequence)
{
	Py_ssize_t count = PyTuple_GET_SIZE(sequence);
	const char **roots = PyMem_Calloc((size_t)count + 1, sizeof(*roots));
	if (!roots)
		PyErr_NoMemory();
	for (Py_ssize_t i = 0; roots && i < count; i++)
		if (!(roots[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(sequence, i)))) {
			PyMem_Free(roots);
			return NULL;
		}
	return roots;
}

/* One question: (importer, its file, target, name or None). */
static PyObject *answer(const lw_lazy_policy *policy, PyObject *question)
{
	const char *importer, *file, *target, *name;
	if (!PyTuple_Check(question))
		return PyErr_Format(PyExc_TypeError, "a question is a tuple, not %s", Py_TYPE(question)->tp_name);
	if (!PyArg_ParseTuple(question, "sssz", &importer, &file, &target, &name))
		return NULL;
	struct lw_lazy_importer what = lw_lazy_policy_importer(policy, importer, file);
	return Py_BuildValue("(NNNN)", PyBool_FromLong(lw_lazy_policy_allows(policy, importer, what, target, name)), PyBool_FromLong(what.never),
		PyBool_FromLong(what.own), PyBool_FromLong(lw_lazy_policy_taints(policy, target, name)));
}

static PyObject *answers(const lw_lazy_policy *policy, PyObject *questions)
{
	PyObject *list = PyList_New(0);
	for (Py_ssize_t i = 0; list && i < PyTuple_GET_SIZE(questions); i++) {
		PyObject *one = answer(policy, PyTuple_GET_ITEM(questions, i));
		if (!one || PyList_Append(list, one) < 0)
			Py_CLEAR(list);
		Py_XDECREF(one);
	}
	return list;
}

PyObject *lw_lazy_ask(PyObject *module, PyObject *args)
{
	enum lw_lazy_mode mode;
	const char *text, *rules;
	char reason[512];
	PyObject *roots, *questions;
	if (!PyArg_ParseTuple(args, "ssO!O!:_lazy_ask", &text, &rules, &PyTuple_Type, &roots, &PyTuple_Type, &questions))
		return NULL;
	if (!lw_lazy_parse_mode(text, &mode))
		return PyErr_Format(PyExc_ValueError, "there is no mode '%s'", text);
	const char **paths = roots_of(roots);
	if (!paths)
		return NULL;
	lw_lazy_policy *policy = lw_lazy_policy_create(mode, rules, paths, reason, sizeof(reason));
	PyMem_Free(paths);
	if (!policy)
		return PyErr_Format(PyExc_ValueError, "%s", reason);
	PyObject *list = answers(policy, questions);
	lw_lazy_policy_destroy(policy);
	return list;
}

static const char *const mode_names[] = { "0", "default", "own", "all" };

PyObject *lw_lazy_read_project(PyObject *module, PyObject *argument)
{
	struct lw_lazy_project project;
	const char *text = PyBytes_Check(argument) ? PyBytes_AS_STRING(argument) : PyUnicode_AsUTF8(argument);
	if (!text)
		return NULL;
	lw_lazy_project_parse(text, &project);
	PyObject *result = NULL;
	if (*project.reason)
		PyErr_SetString(PyExc_ValueError, project.reason);
	else
		result = Py_BuildValue("(Nzs)", PyBool_FromLong(project.there), project.has_mode ? mode_names[project.mode] : NULL, project.rules);
	lw_lazy_project_clear(&project);
	return result;
}

PyObject *lw_lazy_describe(PyObject *module, PyObject *use_env)
{
	struct lw_lazy_settings settings;
	lw_state *state = lw_state_of(module);
	if (lw_find_parts(state) < 0 || lw_lazy_settings_find(state, PyObject_IsTrue(use_env) > 0, &settings) < 0)
		return NULL;
	lw_lazy_policy_destroy(settings.policy);
	return Py_BuildValue("{s:s, s:s, s:N, s:N, s:s}", "mode", mode_names[settings.mode], "reason", settings.reason, "by", PyUnicode_DecodeFSDefault(settings.by),
		"project", PyUnicode_DecodeFSDefault(settings.project), "shipped", lazy_shipped);
}
